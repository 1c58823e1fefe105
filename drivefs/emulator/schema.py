"""The discovery documents as the law: which requests there are, and what each may say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as package_files
from typing import Any

from drivefs.emulator.errors import ApiError, bad_request, invalid_parameter, required

# Of the whole of Google's API front end, and so in no discovery document, or written in another case there.
_COMMON = {"pp", "upload_id", "trace", "userIp", "access_token", "oauth_token", "source"}
_TRUE = {"true": True, "1": True, "True": True, "": True}
_FALSE = {"false": False, "0": False, "False": False}


@dataclass(frozen=True, eq=False, slots=True)
class Method:
    """One method of the API."""

    id: str
    verb: str
    pattern: re.Pattern[str]
    parameters: Mapping[str, Mapping[str, Any]]
    request: str | None
    response: str | None
    scopes: frozenset[str]
    takes_media: bool
    gives_media: bool


class Api:
    """One version of Drive's API."""

    def __init__(self, version: str) -> None:
        documents = package_files("googleapiclient") / "discovery_cache" / "documents"
        self.version = version
        self.document: dict[str, Any] = json.loads((documents / f"drive.{version}.json").read_text("utf-8"))
        self.schemas: dict[str, Any] = self.document["schemas"]
        self.common: dict[str, Any] = self.document["parameters"]
        self.methods: dict[str, Method] = {}
        self._by_verb: dict[str, list[Method]] = {}
        self._collect(self.document)
        for methods in self._by_verb.values():
            # Fixed paths come before those with a variable: files/generateIds is no file's ID.
            methods.sort(key=lambda method: method.pattern.pattern.count("(?P"))

    def _collect(self, node: Mapping[str, Any]) -> None:
        for entry in node.get("methods", {}).values():
            path = re.sub(r"\\\{\+?(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(entry["path"]))
            method = Method(
                id=entry["id"],
                verb=entry["httpMethod"],
                pattern=re.compile(path),
                parameters=entry.get("parameters", {}),
                request=entry.get("request", {}).get("$ref"),
                response=entry.get("response", {}).get("$ref"),
                scopes=frozenset(scope.rsplit("/", 1)[-1] for scope in entry.get("scopes", ())),
                takes_media=bool(entry.get("supportsMediaUpload")),
                gives_media=bool(entry.get("supportsMediaDownload")),
            )
            self.methods[method.id] = method
            self._by_verb.setdefault(method.verb, []).append(method)
        for resource in node.get("resources", {}).values():
            self._collect(resource)

    def find_method(self, verb: str, path: str) -> tuple[Method, dict[str, str]] | None:
        """The method of a path below the API's base, with the path's (still quoted) variables."""
        for method in self._by_verb.get(verb, ()):
            match = method.pattern.fullmatch(path)
            if match is not None:
                return method, match.groupdict()
        return None

    def resolve(self, node: Mapping[str, Any]) -> dict[str, Any]:
        """The schema behind a `$ref`."""
        while "$ref" in node:
            node = self.schemas[node["$ref"]]
        return dict(node)

    # --- a request's query ---

    def check_query(self, method: Method, query: list[tuple[str, str]]) -> dict[str, Any]:
        """The parameters, typed, defaults left out. 400 for what the method does not know or cannot read."""
        result: dict[str, Any] = {}
        for name, text in query:
            spec = method.parameters.get(name) or self.common.get(name)
            if spec is None:
                if name in _COMMON:
                    result[name] = text
                    continue
                raise invalid_parameter(name, f'Unknown name "{name}": Cannot bind query parameter.')
            if spec.get("location") == "path":
                raise invalid_parameter(name, f"Invalid value for parameter {name}")
            value = typed(name, text, spec)
            if spec.get("repeated"):
                result.setdefault(name, []).append(value)
            else:
                result[name] = value
        for name, spec in method.parameters.items():
            if spec.get("required") and spec["location"] == "query" and result.get(name) in (None, ""):
                raise required(name)
        return result

    # --- a request's body ---

    def check_body(self, method: Method, body: Any) -> dict[str, Any]:
        """The body's known fields; unknown ones are dropped, ill-typed ones are a 400."""
        if body is None:
            return {}
        if not isinstance(body, dict):
            raise bad_request("Parse Error")
        if method.request is None:
            return body
        return self._typed_object({"$ref": method.request}, body)

    def _typed_object(self, node: Mapping[str, Any], value: dict[str, Any]) -> dict[str, Any]:
        known = self.resolve(node)
        properties = known.get("properties", {})
        free = known.get("additionalProperties")
        result: dict[str, Any] = {}
        for name, item in value.items():
            spec = properties.get(name, free)
            if spec is not None:
                result[name] = None if item is None else self._typed_value(name, spec, item)
        return result

    def _typed_value(self, name: str, node: Mapping[str, Any], value: Any) -> Any:
        spec = self.resolve(node)
        kind = spec.get("type")
        if kind == "object" and isinstance(value, dict):
            return self._typed_object(spec, value)
        if kind == "array" and isinstance(value, list):
            return [self._typed_value(name, spec["items"], item) for item in value]
        if kind == "boolean" and isinstance(value, bool):
            return value
        if kind == "boolean" and isinstance(value, str) and value in ("true", "false"):
            return value == "true"
        if kind == "string" and isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return str(value)
        if kind in ("integer", "number") and isinstance(value, (int, float)) and not isinstance(value, bool):
            return value
        if kind in ("integer", "number") and isinstance(value, str) and re.fullmatch(r"-?\d+", value):
            return int(value)
        if kind == "any":
            return value
        raise ApiError(400, "invalid", f"Invalid value for field {name}", location=name, location_type="other")


def typed(name: str, text: str, spec: Mapping[str, Any]) -> Any:
    """A query parameter's value by its type; 400 `invalidParameter` when it is none."""
    kind = spec.get("type")
    if kind == "boolean":
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        raise invalid_parameter(name, f"Invalid boolean value: '{text}'.")
    if kind == "integer":
        if not re.fullmatch(r"-?\d{1,18}", text):
            raise invalid_parameter(name, f"Invalid integer value: '{text}'.")
        number = int(text)
        low, high = spec.get("minimum"), spec.get("maximum")
        if (low is not None and number < int(low)) or (high is not None and number > int(high)):
            raise invalid_parameter(
                name, f"Invalid value '{number}'. Values must be within the range: [{low}, {high}]"
            )
        return number
    if "enum" in spec and name not in ("uploadType", "upload_protocol") and text not in spec["enum"]:
        raise invalid_parameter(name, f"Invalid value '{text}'. Allowed values: [{', '.join(spec['enum'])}]")
    return text


@cache
def api(version: str) -> Api:
    """The API of `v2` or `v3`; read once."""
    return Api(version)
