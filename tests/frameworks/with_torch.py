"""Trains something tiny with PyTorch, and saves it by torch.save and by safetensors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from saving import digest_of, main


def build() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(8, 1000), torch.nn.Linear(1000, 1000), torch.nn.Linear(1000, 1))
    return model, torch.optim.Adam(model.parameters())


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    inputs = torch.randn(16, 8, generator=torch.Generator().manual_seed(2))
    optimizer.zero_grad()
    model(inputs).square().mean().backward()
    optimizer.step()


def digest(tensors: dict[str, torch.Tensor]) -> str:
    return digest_of(tensors[name].detach().numpy() for name in sorted(tensors))


# --- torch.save ---


def save_step(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    torch.save(state, folder / "checkpoint.pt")  # the same name again and again
    torch.save(state, folder / "latest.pt.tmp")
    os.replace(folder / "latest.pt.tmp", folder / "latest.pt")


def save_torch(folder: Path) -> Any:
    model, optimizer = build()
    for step in range(3):
        train(model, optimizer)
        save_step(folder, model, optimizer, step)
    return {"digest": digest(model.state_dict()), "step": 2}


def restore_torch(folder: Path) -> Any:
    state = torch.load(folder / "latest.pt", weights_only=True)
    mapped = torch.load(folder / "checkpoint.pt", weights_only=True, mmap=True)
    found = {"digest": digest(state["model"]), "mapped": digest(mapped["model"]), "step": state["step"]}
    model, optimizer = build()
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    train(model, optimizer)
    save_step(folder, model, optimizer, 3)
    return found


# --- safetensors ---


def save_safetensors(folder: Path) -> Any:
    model, optimizer = build()
    for step in range(2):
        train(model, optimizer)
        safetensors.torch.save_file(model.state_dict(), folder / "model.safetensors", metadata={"step": str(step)})
    return {"digest": digest(model.state_dict()), "step": 1}


def restore_safetensors(folder: Path) -> Any:
    loaded = safetensors.torch.load_file(folder / "model.safetensors")
    with safetensors.safe_open(folder / "model.safetensors", framework="pt") as file:
        opened = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        step = int(file.metadata()["step"])
    safetensors.torch.save_file(loaded, folder / "model.safetensors", metadata={"step": str(step + 1)})
    return {"digest": digest(loaded), "opened": digest(opened), "step": step}


if __name__ == "__main__":
    main(
        {
            "torch": {"save": save_torch, "restore": restore_torch},
            "safetensors": {"save": save_safetensors, "restore": restore_safetensors},
        }
    )
