"""Sign-in: access tokens for refresh tokens, authorization codes (PKCE) and service accounts' assertions.

Also writes the credentials files that clients start from, 0600.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from drivefs.emulator.accounts import FULL_SCOPE, SERVICE_DOMAIN, Caller, User
from drivefs.emulator.errors import auth_error, login_required
from drivefs.emulator.state import Emulator

CLIENT_ID = "409786214536-emulator.apps.googleusercontent.com"
CLIENT_SECRET = "GOCSPX-emulator-emulator-emulator"
SERVICE_EMAIL = f"robot@emulator.{SERVICE_DOMAIN}"
CODE_LIFE_S = 600.0


class OAuthError(Exception):
    """`error` and `error_description` of RFC 6749."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status

    def body(self) -> dict[str, str]:
        return {"error": self.error, "error_description": self.description}


class OAuth:
    """Issues tokens and looks them up."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.db = emulator.db
        self._known: dict[str, tuple[Caller, float]] = {}

    # --- looking up ---

    def caller(self, token: str | None) -> Caller:
        """Who holds the access token; 401 `authError` when it is unknown or expired."""
        if not token:
            raise login_required()
        known = self._known.get(token)
        if known is None:
            row = self.db.row("SELECT * FROM tokens WHERE token = ? AND kind = 'access'", (token,))
            if row is None:
                raise auth_error()
            scopes = frozenset(scope.rsplit("/", 1)[-1] for scope in row["scopes"].split())
            caller = Caller(self.emulator.accounts.by_n(row["user"]), row["client"], scopes)
            known = self._known[token] = (caller, row["expires_s"])
        if known[1] <= time.time():
            raise auth_error()
        return known[0]

    # --- issuing ---

    def token(self, form: dict[str, str]) -> dict[str, Any]:
        """The reply of the token endpoint; `OAuthError` when it refuses."""
        kind = form.get("grant_type", "")
        if kind == "refresh_token":
            return self._refreshed(form)
        if kind == "authorization_code":
            return self._exchanged(form)
        if kind == "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return self._asserted(form.get("assertion", ""))
        raise OAuthError("unsupported_grant_type", f"Invalid grant_type: {kind}")

    def issue(self, user: User, client: str, scopes: str) -> dict[str, Any]:
        """A new access token."""
        token = "ya29." + secrets.token_urlsafe(48)
        life_s = self.emulator.options.token_lifetime_s
        self.db.insert(
            "tokens",
            token=token,
            kind="access",
            user=user.n,
            client=client,
            scopes=scopes,
            expires_s=time.time() + life_s,
        )
        self.db.run("DELETE FROM tokens WHERE kind = 'access' AND expires_s < ?", (time.time() - 3600,))
        return {"access_token": token, "expires_in": int(life_s), "scope": scopes, "token_type": "Bearer"}

    def issue_refresh(self, user: User, client: str, scopes: str, life_s: float | None = None) -> str:
        """A refresh token; it works until it is revoked, or for `life_s`."""
        token = "1//0" + secrets.token_urlsafe(64)
        expires_s = None if life_s is None else time.time() + life_s
        self.db.insert(
            "tokens", token=token, kind="refresh", user=user.n, client=client, scopes=scopes, expires_s=expires_s
        )
        return token

    def issue_code(self, user: User, client: str, scopes: str, more: dict[str, str]) -> str:
        """An authorization code, good for one exchange."""
        code = "4/0A" + secrets.token_urlsafe(48)
        self.db.insert(
            "tokens",
            token=code,
            kind="code",
            user=user.n,
            client=client,
            scopes=scopes,
            expires_s=time.time() + CODE_LIFE_S,
            more=json.dumps(more),
        )
        return code

    def _refreshed(self, form: dict[str, str]) -> dict[str, Any]:
        row = self.db.row(
            "SELECT * FROM tokens WHERE token = ? AND kind = 'refresh'", (form.get("refresh_token", ""),)
        )
        if row is None or (row["expires_s"] is not None and row["expires_s"] < time.time()):
            raise OAuthError("invalid_grant", "Token has been expired or revoked.")
        self._check_client(form, row["client"])
        wanted = form.get("scope")
        if wanted and not set(wanted.split()) <= set(row["scopes"].split()):
            raise OAuthError("invalid_scope", "Some requested scopes were invalid.")
        return self.issue(self.emulator.accounts.by_n(row["user"]), row["client"], wanted or row["scopes"])

    def _check_client(self, form: dict[str, str], client: str) -> None:
        if form.get("client_id") != client:
            raise OAuthError("unauthorized_client", "Unauthorized", 401)
        if client == CLIENT_ID and form.get("client_secret") != CLIENT_SECRET:
            raise OAuthError("invalid_client", "The provided client secret is invalid.", 401)

    def _exchanged(self, form: dict[str, str]) -> dict[str, Any]:
        row = self.db.row("SELECT * FROM tokens WHERE token = ? AND kind = 'code'", (form.get("code", ""),))
        if row is None or row["expires_s"] < time.time():
            raise OAuthError("invalid_grant", "Malformed auth code.")
        self.db.run("DELETE FROM tokens WHERE token = ?", (row["token"],))
        self._check_client(form, row["client"])
        more = json.loads(row["more"])
        if form.get("redirect_uri", "") != more.get("redirect_uri", ""):
            raise OAuthError("redirect_uri_mismatch", "Bad Request")
        challenge = more.get("code_challenge")
        if challenge:
            verifier = form.get("code_verifier", "")
            if more.get("code_challenge_method", "plain") == "S256":
                digest = hashlib.sha256(verifier.encode()).digest()
                verifier = base64.urlsafe_b64encode(digest).decode().rstrip("=")
            if not secrets.compare_digest(verifier, challenge):
                raise OAuthError("invalid_grant", "Invalid code verifier.")
        user = self.emulator.accounts.by_n(row["user"])
        reply = self.issue(user, row["client"], row["scopes"])
        life_s = self.emulator.options.refresh_token_lifetime_s
        reply["refresh_token"] = self.issue_refresh(user, row["client"], row["scopes"], life_s)
        if life_s is not None:
            reply["refresh_token_expires_in"] = int(life_s)
        if "openid" in row["scopes"].split():
            claims = {"iss": "https://accounts.google.com", "aud": row["client"], "sub": user.permission_id,
                      "email": user.email, "exp": int(time.time()) + 3600}  # fmt: skip
            reply["id_token"] = ".".join(_b64(json.dumps(part).encode()) for part in ({"alg": "none"}, claims)) + "."
        return reply

    def _asserted(self, assertion: str) -> dict[str, Any]:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - slow to import, seldom needed
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import padding  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415

        pem = self.db.value("SELECT value FROM meta WHERE key = 'service_key'")
        try:
            signed, _, signature = assertion.rpartition(".")
            claims = json.loads(_unb64(signed.split(".")[1]))
            key = serialization.load_pem_private_key((pem or "").encode(), None)
            assert isinstance(key, RSAPrivateKey)
            key.public_key().verify(_unb64(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, ValueError, IndexError) as error:
            raise OAuthError("invalid_grant", "Invalid JWT Signature.") from error
        if claims.get("iss") != SERVICE_EMAIL:
            raise OAuthError("invalid_grant", "Invalid grant: account not found")
        now_s = time.time()
        if not claims.get("iat", 0) - 300 <= now_s < claims.get("exp", 0):
            raise OAuthError("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes).")
        scopes = claims.get("scope", "")
        if not scopes:
            raise OAuthError("invalid_scope", "Empty or missing scope not allowed.")
        user = self.emulator.accounts.find(claims["sub"]) if claims.get("sub") else None
        if claims.get("sub") and user is None:
            raise OAuthError("invalid_grant", "Invalid email or User ID")
        reply = self.issue(user or self.emulator.accounts.ensure(SERVICE_EMAIL), SERVICE_EMAIL, scopes)
        del reply["scope"]
        return reply

    # --- taking back ---

    def revoke(self, token: str) -> None:
        """Refuse a token from now on; a refresh token takes its access tokens with it."""
        row = self.db.row("SELECT * FROM tokens WHERE token = ?", (token,))
        if row is None:
            raise OAuthError("invalid_token", "Token expired or revoked")
        self.db.run("DELETE FROM tokens WHERE token = ?", (token,))
        self.db.run(
            "DELETE FROM tokens WHERE kind IN ('access', 'refresh') AND user = ? AND client = ?",
            (row["user"], row["client"]),
        )
        self._known.clear()

    def expire_access(self) -> int:
        """Let all access tokens expire now."""
        count: int = self.db.run("DELETE FROM tokens WHERE kind = 'access'").rowcount
        self._known.clear()
        return count

    def info(self, token: str) -> dict[str, Any]:
        """The reply of the tokeninfo endpoint."""
        row = self.db.row("SELECT * FROM tokens WHERE token = ? AND kind = 'access'", (token,))
        if row is None or row["expires_s"] <= time.time():
            raise OAuthError("invalid_token", "Invalid Value")
        user = self.emulator.accounts.by_n(row["user"])
        return {
            "azp": row["client"], "aud": row["client"], "sub": user.permission_id, "scope": row["scopes"],
            "exp": str(int(row["expires_s"])), "expires_in": str(int(row["expires_s"] - time.time())),
            "email": user.email, "email_verified": "true", "access_type": "offline",
        }  # fmt: skip

    # --- files for clients ---

    def write_credentials(self, endpoint: str) -> dict[str, Path]:
        """An authorized-user file for each account, and `service-account`'s key file; paths by account."""
        folder = self.emulator.directory / "credentials"
        folder.mkdir(mode=0o700, exist_ok=True)
        result: dict[str, Path] = {}
        for email in self.emulator.options.accounts:
            user = self.emulator.accounts.ensure(email)
            refresh = self.db.value(
                "SELECT token FROM tokens WHERE kind = 'refresh' AND user = ? AND client = ?", (user.n, CLIENT_ID)
            ) or self.issue_refresh(user, CLIENT_ID, FULL_SCOPE)
            result[email] = _write(
                folder / f"{email}.json",
                {
                    "type": "authorized_user",
                    "client_id": CLIENT_ID,
                    "client_secret": CLIENT_SECRET,
                    "refresh_token": refresh,
                    "token_uri": f"{endpoint}/token",
                    "account": email,
                },
            )
        return result

    def write_service_account(self, endpoint: str) -> Path:
        """The key file of a service account; the key is made on first need."""
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

        pem = self.db.value("SELECT value FROM meta WHERE key = 'service_key'")
        if pem is None:
            key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
            made = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            pem = self.db.setting("service_key", made.decode())
        self.emulator.accounts.ensure(SERVICE_EMAIL)
        return _write(
            self.emulator.directory / "credentials" / "service-account.json",
            {
                "type": "service_account",
                "project_id": "emulator",
                "private_key_id": hashlib.sha256(pem.encode()).hexdigest()[:40],
                "private_key": pem,
                "client_email": SERVICE_EMAIL,
                "client_id": "1",
                "auth_uri": f"{endpoint}/o/oauth2/v2/auth",
                "token_uri": f"{endpoint}/token",
            },
        )

    def client_secrets(self, endpoint: str) -> dict[str, Any]:
        """What an installed app's client_secrets.json says."""
        return {
            "installed": {
                "client_id": CLIENT_ID,
                "client_secret": CLIENT_SECRET,
                "auth_uri": f"{endpoint}/o/oauth2/v2/auth",
                "token_uri": f"{endpoint}/token",
                "redirect_uris": ["http://localhost"],
            }
        }


def _write(path: Path, value: dict[str, Any]) -> Path:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file, indent=2)
    os.replace(temporary, path)
    return path


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
