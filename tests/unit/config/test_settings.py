"""Settings: who wins over whom, and that every fault is named at once with where it came from."""

from pathlib import Path

import pytest

from saga_coordinator.config import (
    OPTIONS,
    Settings,
    SettingsFaulty,
    load_settings,
    masked_url,
    unknown_variables,
)

URL = "postgresql://app:secret@db:5432/sagas"


def load(**flags: object) -> Settings:
    return load_settings({"database_url": URL, **flags}, {})


def faults_of(
    flags: dict[str, object], environment: dict[str, str] | None = None, file: Path | None = None
) -> tuple[str, ...]:
    with pytest.raises(SettingsFaulty) as caught:
        load_settings({"database_url": URL, **flags}, environment or {}, file)
    return caught.value.faults


def test_the_defaults_need_nothing_but_a_database() -> None:
    settings = load()
    assert settings.addresses == ("127.0.0.1:7242",)
    assert settings.participants is None
    assert settings.payload_bytes_max == 1024 * 1024
    assert (settings.lease_seconds, settings.grace_seconds, settings.database_wait_seconds) == (
        3.0,
        30.0,
        0.0,
    )
    assert (settings.sagas_in_memory_max, settings.backlog_max) == (10_000, 100_000)
    assert (settings.log_format, settings.log_level) == ("auto", "info")


@pytest.mark.parametrize("name", ["saga.toml", "saga.yaml"])
def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    separator = "=" if file.suffix == ".toml" else ":"
    file.write_text(
        "".join(f"{each}{separator} {11}\n" for each in ("pool_size", "grace_seconds", "lease_seconds"))
    )
    environment = {"SAGA_POOL_SIZE": "12", "SAGA_GRACE_SECONDS": "12"}
    settings = load_settings({"database_url": URL, "pool_size": "13"}, environment, file)
    assert (settings.pool_size, settings.grace_seconds, settings.lease_seconds) == (13, 12.0, 11.0)


def test_an_empty_variable_counts_as_not_given() -> None:
    assert (
        load_settings({"database_url": URL}, {"SAGA_POOL_SIZE": "", "SAGA_PARTICIPANTS": ""}).pool_size == 8
    )


def test_addresses_are_a_list_however_written(tmp_path: Path) -> None:
    expected = ("127.0.0.1:7242", "unix:/run/saga.sock")
    file = tmp_path / "saga.toml"
    file.write_text('addresses = ["127.0.0.1:7242", "unix:/run/saga.sock"]')
    assert load(addresses=expected).addresses == expected
    assert load_settings({"database_url": URL}, {"SAGA_ADDRESSES": ", ".join(expected)}).addresses == expected
    assert load_settings({"database_url": URL}, {}, file).addresses == expected


TCP = ("127.0.0.1:0", "[::1]:7242", "localhost:7242", "saga.internal:1")
UNFIT = ("", "7242", "127.0.0.1", "127.0.0.1:70000", "::1:7242", "http://127.0.0.1:7242", "unix:")


@pytest.mark.parametrize("address", [*TCP, "unix:saga.sock", "unix:///run/saga.sock"])
def test_addresses_that_can_be_listened_on(address: str) -> None:
    assert load(addresses=(address,)).addresses[0].endswith(address[-4:])


@pytest.mark.parametrize("address", [*UNFIT, "unix:" + "a" * 108])
def test_addresses_that_cannot(address: str) -> None:
    (fault,) = faults_of({"addresses": (address,)})
    assert fault.startswith("--address is ")


def test_an_address_is_listened_on_once() -> None:
    (fault,) = faults_of({"addresses": ("127.0.0.1:1", "127.0.0.1:1")})
    assert "twice" in fault


def test_paths_in_a_file_begin_at_that_file(tmp_path: Path) -> None:
    file = tmp_path / "saga.yaml"
    file.write_text("participants: participants.yaml")
    assert load_settings({"database_url": URL}, {}, file).participants == tmp_path / "participants.yaml"
    flags = {"database_url": URL, "participants": "other.yaml"}
    assert load_settings(flags, {}, file).participants == Path("other.yaml")


def test_every_fault_is_named_with_its_source(tmp_path: Path) -> None:
    file = tmp_path / "saga.yaml"
    file.write_text("log_level: loud\npol_size: 3\n")
    faults = faults_of({"pool_size": "many", "lease_seconds": "3s"}, {"SAGA_GRACE_SECONDS": "-1"}, file)
    assert len(faults) == 5
    for part in (
        "pol_size is not a setting; did you mean `pool_size`?",
        "--pool-size is 'many', but must be a whole number from",
        "--lease-seconds is '3s', but must be a number of seconds from 0.5 to 300, without a unit",
        "SAGA_GRACE_SECONDS is '-1', but",
        f"{file}: log_level is 'loud', but must be one of debug, info, warning, error",
    ):
        assert sum(part in fault for fault in faults) == 1, part


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("saga.toml", "pool_size = \n", "line 1"),
        ("saga.yaml", "pool_size: 1\npool_size: 2\n", ":2: the key 'pool_size' is given twice"),
        ("saga.yaml", "- 1\n", "must be one object of settings"),
        ("saga.yaml", "pool_size: true\n", "pool_size is True, but must be a whole number"),
        ("absent.toml", None, "cannot be read: No such file"),
    ],
)
def test_faulty_files(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_text(content)
    faults = faults_of({}, file=file)
    assert str(file) in faults[0]
    assert said in faults[0]


def test_a_file_that_cannot_be_read_is_the_only_fault(tmp_path: Path) -> None:
    with pytest.raises(SettingsFaulty) as caught:
        load_settings({}, {}, tmp_path / "absent.yaml")
    assert [fault for fault in caught.value.faults if "cannot be read" not in fault] == []


def test_a_misspelt_variable_is_told_with_what_was_meant() -> None:
    of_kubernetes = ("SAGA_SERVICE_HOST", "SAGA_COORDINATOR_PORT", "SAGA_COORDINATOR_PORT_7242_TCP_ADDR")
    environment = dict.fromkeys(("SAGA_LEASE_SECOND", "SAGA_CONFIG", "SAGA_X", "HOME", *of_kubernetes), "1")
    assert unknown_variables(environment) == {"SAGA_LEASE_SECOND": "SAGA_LEASE_SECONDS", "SAGA_X": None}
    with pytest.raises(SettingsFaulty, match="SAGA_DATABASE_URI is set, and is not a setting"):
        load_settings({}, {"SAGA_DATABASE_URI": URL})


def test_a_missing_database_says_where_to_name_it() -> None:
    with pytest.raises(SettingsFaulty, match=r"--database-url.*SAGA_DATABASE_URL.*--config"):
        load_settings({}, {})


def test_the_password_is_shown_nowhere() -> None:
    faults = faults_of({"database_url": "mysql://app:secret@db/sagas", "pool_size": "x"})
    assert not any("secret" in fault for fault in faults)
    assert "secret" not in repr(load())
    assert "secret" not in masked_url(load().database_url)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        (URL, "postgresql://app:***@db:5432/sagas"),
        ("postgresql://app@db/sagas", "postgresql://app@db/sagas"),
        ("postgresql:///sagas?user=app&password=secret", "postgresql:///sagas?user=app&password=***"),
        ("postgresql://a:b@h1:1,[::1]:2/x", "postgresql://a:***@h1:1,[::1]:2/x"),
        ("postgresql://a:p@ss@db/x?sslpassword=secret&x=1", "postgresql://a:***@db/x?sslpassword=***&x=1"),
    ],
)
def test_masking(url: str, masked: str) -> None:
    assert masked_url(url) == masked


@pytest.mark.parametrize("hosts", ["db", "db:5432", "h1:5432,h2:5433", "h1,[::1]:5433,%2Frun%2Fpostgresql"])
def test_a_database_may_have_several_hosts(hosts: str) -> None:
    url = f"postgresql://app:secret@{hosts}/sagas?target_session_attrs=read-write"
    assert load(database_url=url).database_url == url


@pytest.mark.parametrize("hosts", ["db:port", "h1:5432,h2:99999", "h1:x,h2"])
def test_a_database_whose_port_is_none(hosts: str) -> None:
    (fault,) = faults_of({"database_url": f"postgresql://app:secret@{hosts}/sagas"})
    assert "must be a URL" in fault
    assert "secret" not in fault


@pytest.mark.parametrize("password", ["se@cret", "se/cr@et", "12/cr@et", "12?cr@et", "12#cr@et"])
def test_a_password_that_is_not_encoded_is_not_shown(password: str) -> None:
    (fault,) = faults_of({"database_url": f"postgresql://app:{password}@db:5432/sagas"})
    assert "percent-encode" in fault
    assert "%40" in fault
    assert "cr" not in fault.replace("percent", "")


@pytest.mark.parametrize("url", ["postgresql://app:p%40ss%2F@db/sagas?x=a@b", "postgresql:///sagas?user=app"])
def test_what_is_encoded_is_taken(url: str) -> None:
    assert load(database_url=url).database_url == url


@pytest.mark.parametrize(
    ("written", "meant"), [("true", True), ("False", False), (True, True), (False, False)]
)
def test_whether_statements_are_prepared(written: object, meant: bool) -> None:
    assert load(prepared_statements=written).prepared_statements is meant


def test_a_truth_is_a_word() -> None:
    (fault,) = faults_of({"prepared_statements": "1"})
    assert fault == "--prepared-statements is '1', but must be true or false"


def test_every_field_has_an_option_and_every_option_a_field() -> None:
    assert {option.name for option in OPTIONS} == set(Settings.__dataclass_fields__)


def test_every_default_passes_its_own_check() -> None:
    for option in OPTIONS:
        if option.default is not None:
            option.parse(option.default)


def test_headers_to_send_on_are_a_list_however_written(tmp_path: Path) -> None:
    file = tmp_path / "saga.toml"
    file.write_text('forward_headers = ["x-tenant", "X-User"]')
    expected = {"x-tenant", "x-user"}
    assert load(forward_headers="x-tenant, X-User").forward_headers == expected
    assert load_settings({"database_url": URL}, {}, file).forward_headers == expected
    assert load().forward_headers == frozenset()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("x tenant", "which is no name"),
        ("x-photo-bin", "whose value would be bytes"),
        ("grpc-timeout", "is set by gRPC or the coordinator itself"),
        ("idempotency-key", "is set by gRPC or the coordinator itself"),
        ("saga-id", "is set by gRPC or the coordinator itself"),
        ("Authorization", "would be kept in the log of the saga"),
        (",".join(f"x-{number}" for number in range(21)), "has 21 names; 20 is the limit"),
    ],
)
def test_headers_that_must_not_be_sent_on(written: str, said: str) -> None:
    (fault,) = faults_of({"forward_headers": written})
    assert fault.startswith("--forward-headers is ")
    assert said in fault


@pytest.mark.parametrize(("written", "mode"), [("0660", 0o660), ("666", 0o666), ("0o600", 0o600)])
def test_modes_of_sockets(written: str, mode: int) -> None:
    assert load(socket_mode=written).socket_mode == mode


@pytest.mark.parametrize("written", ["0888", "rw-rw----", "0", "06600", "-660", 432, ""])
def test_no_modes_of_sockets(written: object) -> None:
    with pytest.raises(SettingsFaulty, match="three octal digits"):
        load(socket_mode=written)


def test_groups_of_sockets() -> None:
    assert load().socket_group is None
    assert load(socket_group="10001").socket_group == 10001
    assert load(socket_group="root").socket_group == 0
    with pytest.raises(SettingsFaulty, match="give its number instead"):
        load(socket_group="no such group")
