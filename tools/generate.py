"""Generates the Python code of proto/: for the server and for its clients.

    python -m tools.generate            write it
    python -m tools.generate --check    exit 1 when what is committed is not what would be written

`buf build` compiles proto/ to one descriptor set, without a network; protoc's plugins then write Python from
it, twice:

- the server's, into saga_coordinator/pb, by the grpcio-tools of this environment;
- the clients', into clients/python/saga_client/v1, by an older grpcio-tools, because generated code refuses to
  be imported by a protobuf or grpcio older than its generator, and a client's application may not be free to
  take the newest.

The comments of the contract go into saga_coordinator/pb/comments.binpb, because generated Python has none: the server's
reflection sends them to clients that show them as help.

Both register the same descriptors under the same names, so one process may import both. The example's own shop.proto becomes
one module beside it, by the clients' grpcio-tools.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parent.parent
MODULES = (ROOT / "proto", ROOT / "internal" / "proto")
"""The contract, and what coordinators say to each other."""
CACHE = ROOT / ".cache"
# Runs with protobuf >= 5.29 and grpcio >= 1.71.2; clients/python/pyproject.toml promises the same floors.
CLIENT_GRPCIO_TOOLS = "1.71.2"
HEADER = "# Generated from proto/ by `make generate`; do not edit.\n"
# A package's own name inside generated code. Only these forms are module references: the same words also occur
# in method paths ('/saga.v1.SagaService/StartSaga') and in the serialized descriptors, which must stay.
MODULE_REFERENCE = re.compile(
    r"^(?P<before>from |import |_builder\.BuildTopDescriptorsAndMessages\(DESCRIPTOR, ')"
    r"(?P<package>saga(?:\.internal)?\.v1)(?=[ .])",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Package:
    """A package of proto/ and what becomes of it."""

    proto: str
    inner: Path
    """Where its modules are, inside the target's folder."""
    name: str
    """What it is called in Python."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where generated code goes and who writes it."""

    folder: Path
    """The folder owned by this program: whatever else is in it is removed. Relative to the project."""
    packages: tuple[Package, ...]
    grpcio_tools: str | None
    """The version that writes it; None: the one installed."""
    has_comments: bool = False
    """Whether the contract's comments go with it."""


TARGETS = (
    Target(
        Path("saga_coordinator/pb"),
        (
            Package("saga.v1", Path("saga/v1"), "saga_coordinator.pb.saga.v1"),
            Package("saga.internal.v1", Path("saga/internal/v1"), "saga_coordinator.pb.saga.internal.v1"),
        ),
        None,
        has_comments=True,
    ),
    Target(
        Path("clients/python/saga_client/v1"),
        (Package("saga.v1", Path(), "saga_client.v1"),),
        CLIENT_GRPCIO_TOOLS,
    ),
)


EXAMPLE = Path("examples/order_fulfilment/shop.proto")
"""Of services that know nothing of sagas."""


def run(command: Sequence[str | Path], more_environment: Mapping[str, str]) -> None:
    # Plugins and buf are found beside this interpreter, whether or not its environment is activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "PATH": path, "BUF_CACHE_DIR": str(CACHE / "buf"), **more_environment}
    subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, check=True)


def tools_folder(version: str) -> Path:
    """The folder with this grpcio-tools, fetched on first use. Its compiler needs no dependencies."""
    folder = CACHE / f"grpcio-tools-{version}-py{sys.version_info.major}.{sys.version_info.minor}"
    if not folder.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            fetched = Path(scratch) / "fetched"
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
            run([*pip, "--target", fetched, f"grpcio-tools=={version}"], {})
            fetched.rename(folder)
    return folder


def write_modules(descriptors: Path, grpcio_tools: str | None, folder: Path) -> None:
    """Lets protoc's plugins write `saga/v1/*_pb2*` and its like into `folder`."""
    sources = sorted(path.relative_to(module) for module in MODULES for path in module.rglob("*.proto"))
    python_path = {"PYTHONPATH": str(tools_folder(grpcio_tools))} if grpcio_tools else {}
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={descriptors}"]
    run([*protoc, f"--python_out={folder}", f"--grpc_python_out={folder}", *sources], python_path)
    # The stubs only describe; they are the same for both and written by the plugins of this environment.
    run([*protoc, f"--mypy_out=quiet:{folder}", f"--mypy_grpc_out=quiet:{folder}", *sources], {})


def move_into_package(modules: Path, names: Mapping[str, str], destination: Path) -> None:
    """Copies the generated modules, with packages renamed; leaves out those meant for services that hold none."""
    destination.mkdir(parents=True, exist_ok=True)
    for source in sorted(path for path in modules.iterdir() if path.is_file()):
        text = source.read_text(encoding="utf-8")
        if "_pb2_grpc" in source.name and "class " not in text.replace("class _", ""):
            continue
        text = MODULE_REFERENCE.sub(lambda found: f"{found['before']}{names[found['package']]}", text)
        (destination / source.name).write_text(HEADER + text, encoding="utf-8")


def comments_of(descriptors: Path) -> bytes:
    """The comments of what clients may see: a serialized FileDescriptorSet whose files have nothing else but their names."""
    built, kept = descriptor_pb2.FileDescriptorSet(), descriptor_pb2.FileDescriptorSet()
    built.ParseFromString(descriptors.read_bytes())
    for file in sorted(built.file, key=lambda file: file.name):
        if file.package == "saga.internal.v1":
            continue
        locations = kept.file.add(name=file.name).source_code_info.location
        for location in file.source_code_info.location:
            if location.leading_comments or location.trailing_comments:
                commented = locations.add(path=location.path, span=location.span)
                commented.leading_comments = location.leading_comments
                commented.trailing_comments = location.trailing_comments
    return kept.SerializeToString(deterministic=True)


def generate(target: Target, descriptors: Path, destination: Path) -> None:
    names = {package.proto: package.name for package in target.packages}
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        write_modules(descriptors, target.grpcio_tools, Path(scratch))
        for package in target.packages:
            modules = Path(scratch, *package.proto.split("."))
            move_into_package(modules, names, destination / package.inner)
    inner = {folder for package in target.packages for folder in [package.inner, *package.inner.parents]}
    for folder in {destination, *(destination / folder for folder in inner)}:
        (folder / "__init__.py").write_text(HEADER, encoding="utf-8")
    if target.has_comments:
        (destination / "comments.binpb").write_bytes(comments_of(descriptors))


def generate_example(destination: Path) -> None:
    """Writes the example's module and its stub as they should be, below `destination`."""
    root = EXAMPLE.parts[0]
    source = EXAMPLE.relative_to(root)
    destination.mkdir(parents=True, exist_ok=True)
    protoc: list[str | Path] = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", source]
    run([*protoc, f"--python_out={destination}"], {"PYTHONPATH": str(tools_folder(CLIENT_GRPCIO_TOOLS))})
    run([*protoc, f"--mypy_out=quiet:{destination}"], {})
    for path in example_modules(destination):
        header = HEADER.replace("proto/", str(EXAMPLE))
        path.write_text(header + path.read_text(encoding="utf-8"), encoding="utf-8")


def example_modules(folder: Path) -> list[Path]:
    return [folder / EXAMPLE.parent.name / f"{EXAMPLE.stem}_pb2{suffix}" for suffix in (".py", ".pyi")]


def contents(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def stale_files(target: Target, fresh: Path) -> list[Path]:
    committed, generated = contents(ROOT / target.folder), contents(fresh)
    names = sorted(committed.keys() | generated.keys())
    return [target.folder / name for name in names if committed.get(name) != generated.get(name)]


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate the Python code of proto/.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when the committed code is stale"
    )
    is_check = parser.parse_args().check
    CACHE.mkdir(exist_ok=True)
    stale: list[Path] = []
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        descriptors = Path(scratch) / "saga.binpb"
        run(["buf", "build", "--output", descriptors], {})
        for target in TARGETS:
            fresh = Path(scratch) / target.folder
            generate(target, descriptors, fresh)
            if is_check:
                stale += stale_files(target, fresh)
            else:
                shutil.rmtree(ROOT / target.folder, ignore_errors=True)
                shutil.copytree(fresh, ROOT / target.folder)
        fresh = Path(scratch) / "examples"
        generate_example(fresh)
        for written, committed in zip(
            example_modules(fresh), example_modules(ROOT / "examples"), strict=True
        ):
            if not is_check:
                shutil.copyfile(written, committed)
            elif not committed.exists() or committed.read_text("utf-8") != written.read_text("utf-8"):
                stale.append(committed.relative_to(ROOT))
    for path in stale:
        print(
            f"{path}: not what proto/ generates now; run `make generate` and commit the result",
            file=sys.stderr,
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
