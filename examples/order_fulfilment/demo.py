"""Runs order fulfilment for real: Postgres, the coordinator and three services, six stories, and then the books.

    python -m order_fulfilment.demo

Everything is a process of its own on this machine, listens on loopback and writes below `.saga-demo/`, which is removed
when the books are right. Ends with `demo: consistent` and code 0, or says what is wrong and ends with code 1.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import grpc
import psycopg
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from saga_client.v1.saga_service_pb2_grpc import SagaServiceStub

from order_fulfilment.books import Books, find_faults, read_books
from order_fulfilment.processes import DemoError, Processes, wait_until
from order_fulfilment.scenarios import CROWD, STORIES, Stage
from order_fulfilment.service import SHAPES
from order_fulfilment.timeline import STATUS_STYLES

FAULTS_SHOWN_MAX = 20


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="saga-coordinator demo", description="Runs the order fulfilment example."
    )
    parser.add_argument("--dir", type=Path, default=Path(".saga-demo"), help="where to write while it runs")
    parser.add_argument(
        "--participants", choices=SHAPES, default="contract", help="how the services take part in sagas"
    )
    parser.add_argument(
        "--stories",
        type=_numbers,
        default=range(1, len(STORIES) + 1),
        metavar="1,2",
        help=f"which of the stories 1 to {len(STORIES)} to tell; default: all",
    )
    parser.add_argument(
        "--orders",
        type=int,
        choices=range(1, CROWD + 1),
        default=CROWD,
        metavar=f"1-{CROWD}",
        help="how many there are on the busy day; default: %(default)s",
    )
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _interrupt)
    console = Console(highlight=False, soft_wrap=True)
    try:
        with _folder(arguments.dir.resolve()) as folder, _in_words(folder):
            faults = _run(console, folder, arguments.participants, arguments.stories, arguments.orders)
            if faults:
                raise DemoError("the books are wrong:\n" + _in_lines(faults) + f"\nThe logs are in {folder}")
    except DemoError as error:
        console.print(f"[bold red]demo: {escape(str(error))}[/bold red]")
        print("demo: inconsistent", flush=True)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped", flush=True)
        return 130
    print("demo: consistent", flush=True)
    return 0


@contextmanager
def _in_words(folder: Path) -> Iterator[None]:
    """Says in one line what a call or a statement failed with, and where to read on."""
    try:
        yield
    except grpc.RpcError as error:
        said = f"{error.code().name}: {error.details()}"
    except psycopg.Error as error:
        said = str(error)
    else:
        return
    raise DemoError(f"{' '.join(said.split())}; the logs are in {folder}")


def _numbers(said: str) -> list[int]:
    """Of stories, as in `1,2,6`; a ValueError is wrong usage to argparse."""
    numbers = sorted({int(number) for number in said.split(",")})
    if not 1 <= numbers[0] <= numbers[-1] <= len(STORIES):
        raise ValueError
    return numbers


def _run(console: Console, folder: Path, shape: str, stories: Sequence[int], orders: int) -> list[str]:
    """Plays the stories of these numbers and returns what is wrong with the books; nothing is left running, whatever happens."""
    began = time.monotonic()
    processes = Processes(folder, shape)
    try:
        console.print("Starting Postgres, the coordinator, inventory, payments and shipping")
        processes.start_all()
        console.print(f"   all are up after {time.monotonic() - began:.1f} s")
        with psycopg.connect(processes.shop_url, autocommit=True) as shop:
            sagas = SagaServiceStub(processes.channels["coordinator"])
            stage = Stage(processes, console, sagas, shop, crowd=orders)
            for number in stories:
                title, story = STORIES[number - 1]
                console.print(f"\n[bold]{number}. {title}[/bold]")
                story(stage)
            statuses, books = stage.statuses(), read_books(shop)
        console.print("\n[bold]The books[/bold]")
        _show_totals(console, books, statuses)
        faults = [*stage.faults, *find_faults(books, stage.orders, statuses)]
    finally:
        with _undisturbed():
            killed = processes.stop_all()
    faults += [f"{name} did not stop when it was asked to, and was killed" for name in killed]
    console.print(f"   all of it in {time.monotonic() - began:.1f} s")
    return faults


def _show_totals(console: Console, books: Books, statuses: dict[str, str]) -> None:
    goods = _table("goods", "at first", "in stock", "reserved", "shipped")
    reserved, shipped = books.reserved(), books.shipped()
    for sku, stock in books.stock.items():
        goods.add_row(sku, *map(str, (stock.initial, stock.available, reserved[sku], shipped[sku])))
    charged = sum(charge.amount_cents for charge in books.charges)
    refunded = sum(charge.refunded_cents for charge in books.charges)
    money = _table("money", "charged", "refunded", "earned")
    money.add_row("euro", *(f"{cents / 100:,.2f}" for cents in (charged, refunded, charged - refunded)))
    keys = _table("keys at", "keys", "asked", "applied", "applied twice")
    for service in ("inventory", "payments", "shipping"):
        own = [key for key in books.keys if key.service == service]
        twice = sum(key.effects > 1 for key in own)
        counts = (len(own), sum(key.times_seen for key in own), sum(key.effects for key in own), twice)
        keys.add_row(service, *map(str, counts))
    sagas = _table("ended as", "sagas")
    for status, count in sorted(Counter(statuses.values()).items()):
        sagas.add_row(status, str(count), style=STATUS_STYLES.get(status, "bold red"))
    for table in (goods, money, keys, sagas):
        console.print(table)


def _table(heading: str, *numbers: str) -> Table:
    table = Table(heading, box=box.SIMPLE_HEAD, pad_edge=False)
    for each in numbers:
        table.add_column(each, justify="right")
    return table


def _in_lines(faults: list[str]) -> str:
    lines = [f"  {fault}" for fault in faults[:FAULTS_SHOWN_MAX]]
    if len(faults) > FAULTS_SHOWN_MAX:
        lines.append(f"  and {len(faults) - FAULTS_SHOWN_MAX} more")
    return "\n".join(lines)


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    """A new folder for this run. Only a run that failed leaves it behind, without the database."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise DemoError(f"--dir {parent}: {error.strerror}") from None
    try:
        yield folder
    except Exception:
        _remove(folder / "postgres")
        raise
    except KeyboardInterrupt:
        _remove(folder)
        raise
    else:
        _remove(folder)
    finally:
        with suppress(OSError):  # it holds other runs
            parent.rmdir()


def _remove(folder: Path) -> None:
    """Removes it also while Postgres, interrupted as it started, is still removing files of its own."""

    def is_gone() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    wait_until(is_gone, f"{folder} to be removed")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not keep the first from being cleaned up after."""
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
