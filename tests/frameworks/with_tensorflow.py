"""Trains something tiny with TensorFlow and Keras, and saves it in each of their ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy
import tensorflow as tf
import tf_keras
from saving import digest_of, main

v1 = tf.compat.v1

NUMBERS = numpy.random.default_rng(1)
X = NUMBERS.normal(size=(64, 8)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("float32")


# --- tf.train.Saver ---


class Graph:
    """A linear model as TensorFlow 1 has it, with 4 MB of weights beside."""

    def __init__(self) -> None:
        self.graph = tf.Graph()
        with self.graph.as_default():
            v1.set_random_seed(1)
            self.weights = v1.get_variable("weights", [8, 1])
            v1.get_variable("embedding", [1000, 1000])
            self.step = v1.train.get_or_create_global_step()
            loss = tf.reduce_mean((tf.matmul(X, self.weights)[:, 0] - Y) ** 2)
            self.train = v1.train.AdamOptimizer(0.01).minimize(loss, self.step)
            self.saver = v1.train.Saver(max_to_keep=2)
            self.all = v1.global_variables()

    def session(self) -> Any:
        return v1.Session(graph=self.graph)


def save_saver(folder: Path) -> Any:
    model = Graph()
    with model.session() as session:
        with model.graph.as_default():
            session.run(v1.global_variables_initializer())
        for _ in range(4):
            session.run(model.train)
            model.saver.save(session, str(folder / "model.ckpt"), global_step=model.step)
        return {"digest": digest_of(session.run(model.all)), "step": int(session.run(model.step))}


def restore_saver(folder: Path) -> Any:
    model = Graph()
    with model.session() as session:
        newest = tf.train.latest_checkpoint(str(folder))
        model.saver.restore(session, newest)
        state = tf.train.get_checkpoint_state(str(folder))
        model.saver.recover_last_checkpoints(state.all_model_checkpoint_paths)
        found = {"digest": digest_of(session.run(model.all)), "step": int(session.run(model.step))}
        session.run(model.train)
        model.saver.save(session, str(folder / "model.ckpt"), global_step=model.step)
        return found


# --- tf.train.CheckpointManager ---


class Linear(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(tf.zeros([8, 1]))
        self.embedding = tf.Variable(tf.random.stateless_normal([500, 500], seed=(1, 2)))

    def train(self) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((tf.matmul(X, self.weights)[:, 0] - Y) ** 2)
        self.weights.assign_sub(0.1 * tape.gradient(loss, self.weights))


def manage(folder: Path) -> tuple[Linear, tf.Variable, tf.train.CheckpointManager]:
    model, step = Linear(), tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(model=model, step=step)
    return model, step, tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=2)


def state_of(model: Linear, step: tf.Variable) -> Any:
    return {"digest": digest_of(variable.numpy() for variable in model.variables), "step": int(step.numpy())}


def save_manager(folder: Path) -> Any:
    model, step, manager = manage(folder)
    for _ in range(4):
        model.train()
        step.assign_add(1)
        manager.save(checkpoint_number=step)
    return state_of(model, step)


def restore_manager(folder: Path) -> Any:
    model, step, manager = manage(folder)
    manager.restore_or_initialize()
    found = state_of(model, step)
    model.train()
    step.assign_add(1)
    manager.save(checkpoint_number=step)
    return found


# --- Keras ---


def train_keras(folder: Path, model: Any, initial_epoch: int, epochs: int) -> None:
    callbacks = [
        keras.callbacks.ModelCheckpoint(str(folder / "model-{epoch:02d}.keras")),
        keras.callbacks.ModelCheckpoint(str(folder / "epoch-{epoch:02d}.weights.h5"), save_weights_only=True),
        keras.callbacks.ModelCheckpoint(str(folder / "best.keras"), monitor="loss", save_best_only=True),
    ]
    model.fit(X, Y, initial_epoch=initial_epoch, epochs=epochs, callbacks=callbacks, verbose=0)


def save_keras(folder: Path) -> Any:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(512), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    train_keras(folder, model, 0, 2)
    return {"digest": digest_of(model.get_weights())}


def restore_keras(folder: Path) -> Any:
    model = keras.models.load_model(folder / "model-02.keras")
    by_weights = keras.models.load_model(folder / "model-01.keras")
    by_weights.load_weights(folder / "epoch-02.weights.h5")
    found = {"digest": digest_of(model.get_weights()), "by_weights": digest_of(by_weights.get_weights())}
    train_keras(folder, model, 2, 4)
    return found


# --- Keras as it was, with HDF5 files ---

CLASSIC_NAME = "weights-{epoch:02d}-{val_acc:.3f}.hdf5"


def train_classic(folder: Path, model: Any, initial_epoch: int, epochs: int) -> None:
    checkpoint = tf_keras.callbacks.ModelCheckpoint(str(folder / CLASSIC_NAME), monitor="val_acc", mode="max")
    model.fit(
        X,
        Y,
        validation_data=(X, Y),
        initial_epoch=initial_epoch,
        epochs=epochs,
        callbacks=[checkpoint],
        verbose=0,
    )


def save_classic(folder: Path) -> Any:
    tf_keras.utils.set_random_seed(1)
    layers = [tf_keras.layers.Dense(256, input_shape=(8,)), tf_keras.layers.Dense(1, activation="sigmoid")]
    model = tf_keras.Sequential(layers)
    model.compile("adam", "binary_crossentropy", metrics=["acc"])
    train_classic(folder, model, 0, 2)
    return {"digest": digest_of(model.get_weights())}


def restore_classic(folder: Path) -> Any:
    (newest,) = folder.glob("weights-02-*.hdf5")
    model = tf_keras.models.load_model(newest)
    found = {"digest": digest_of(model.get_weights())}
    train_classic(folder, model, 2, 4)
    return found


if __name__ == "__main__":
    main(
        {
            "saver": {"save": save_saver, "restore": restore_saver},
            "manager": {"save": save_manager, "restore": restore_manager},
            "keras": {"save": save_keras, "restore": restore_keras},
            "classic": {"save": save_classic, "restore": restore_classic},
        }
    )
