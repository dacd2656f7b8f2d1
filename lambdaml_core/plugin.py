"""The built-in plugins, provided through the same hooks and written the same way as anybody else's."""

from __future__ import annotations

from collections.abc import Iterator

from lambdaml_core.builtin import (
    ArrayOptions,
    CsvOptions,
    FaultOptions,
    FileOptions,
    GASGDOptions,
    LibsvmOptions,
    LinearOptions,
    LocalOptions,
    MASGDOptions,
    SVMOptions,
    TableOptions,
)
from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.specs import (
    CommunicatorSpec,
    DataFormatSpec,
    ModelSpec,
    OptimizerSpec,
    ProviderSpec,
    StorageLayerSpec,
    StorageSpec,
)

LAMBDAML_API = 0


@hookimpl
def lambdaml_storages() -> Iterator[StorageSpec]:
    yield StorageSpec(
        name="memory",
        schemes=("memory",),
        factory="lambdaml_core.storage.memory:MemoryStorage",
        summary="values in this process, for threads: tests and notebooks",
    )
    yield StorageSpec(
        name="file",
        schemes=("file",),
        factory="lambdaml_core.storage.file:FileStorage",
        options=FileOptions,
        channel={"sync": False},
        summary="files on one machine: a durable store on disk, a fast channel on tmpfs",
    )


@hookimpl
def lambdaml_storage_layers() -> Iterator[StorageLayerSpec]:
    yield StorageLayerSpec(
        name="fault",
        factory="lambdaml_core.storage.fault:FaultStorage",
        options=FaultOptions,
        summary="faults from a seed in any storage, such as fault+file:///...?fault_lost=0.01",
    )


@hookimpl
def lambdaml_communicators() -> Iterator[CommunicatorSpec]:
    yield CommunicatorSpec(
        name="aggregate",
        factory="lambdaml_core.comm.patterns:aggregate",
        summary="K ranks each fold a share of the message: 1 is AllReduce by a leader, all is ScatterReduce",
    )


@hookimpl
def lambdaml_optimizers() -> Iterator[OptimizerSpec]:
    yield OptimizerSpec(
        name="ga_sgd",
        factory="lambdaml_core.optim.ga_sgd:GASGD",
        options=GASGDOptions,
        summary="gradient averaging: every mini-batch's gradient is summed over all workers",
        aliases=("grad_avg",),
    )
    yield OptimizerSpec(
        name="ma_sgd",
        factory="lambdaml_core.optim.ma_sgd:MASGD",
        options=MASGDOptions,
        summary="model averaging: workers take steps of their own, then their models are averaged",
        aliases=("model_avg",),
    )


@hookimpl
def lambdaml_providers() -> Iterator[ProviderSpec]:
    yield ProviderSpec(
        name="local",
        factory="lambdaml_core.provider.local:LocalProvider",
        options=LocalOptions,
        summary="a fresh Python process per worker on this machine, as a function would be",
    )
    yield ProviderSpec(
        name="inline",
        factory="lambdaml_core.provider.inline:InlineProvider",
        summary="a thread per worker in this process: notebooks and tests",
    )


@hookimpl
def lambdaml_models() -> Iterator[ModelSpec]:
    yield ModelSpec(
        name="logistic_regression",
        factory="lambdaml_core.models.logistic:LogisticRegression",
        options=LinearOptions,
        summary="logistic regression: sigmoid for two classes, softmax for more",
        aliases=("lr", "sparse_lr"),
    )
    yield ModelSpec(
        name="svm",
        factory="lambdaml_core.models.svm:SVM",
        options=SVMOptions,
        summary="linear support vector machine: hinge loss, one against the rest for more than two classes",
        aliases=("sparse_svm",),
    )
    yield ModelSpec(
        name="least_squares",
        factory="lambdaml_core.models.least_squares:LeastSquares",
        options=LinearOptions,
        summary="linear regression: half the squared error, for labels that are numbers",
        aliases=("linear_regression",),
        target="number",
    )


@hookimpl
def lambdaml_data_formats() -> Iterator[DataFormatSpec]:
    yield DataFormatSpec(
        name="libsvm",
        factory="lambdaml_core.data.libsvm:Libsvm",
        options=LibsvmOptions,
        summary="LIBSVM text, plain or gzip",
        aliases=("dense_libsvm", "sparse_libsvm"),
        suffixes=(".libsvm", ".svm", ".svmlight", ".libsvm.gz", ".svm.gz", ".svmlight.gz"),
    )
    yield DataFormatSpec(
        name="csv",
        factory="lambdaml_core.data.delimited:Csv",
        options=CsvOptions,
        summary="CSV, plain or gzip: numbers are scaled, categories one-hot or hashed",
        suffixes=(".csv", ".csv.gz", ".tsv", ".tsv.gz"),
    )
    yield DataFormatSpec(
        name="parquet",
        factory="lambdaml_core.data.parquet:Parquet",
        options=TableOptions,
        summary="Apache Parquet, columns as in CSV; needs lambdaml[parquet]",
        suffixes=(".parquet",),
    )
    yield DataFormatSpec(
        name="frame",
        factory="lambdaml_core.data.frames:Frames",
        options=TableOptions,
        summary="pandas frames given from Python, columns as in CSV",
    )
    yield DataFormatSpec(
        name="npz",
        factory="lambdaml_core.data.numpy_files:Npz",
        options=ArrayOptions,
        summary="NPZ of numpy or of scipy.sparse.save_npz",
        suffixes=(".npz",),
    )
    yield DataFormatSpec(
        name="npy",
        factory="lambdaml_core.data.numpy_files:Npy",
        options=ArrayOptions,
        summary="NPY of numpy: a matrix, labels in a column of it or in a file beside it",
        suffixes=(".npy",),
    )
