"""What was encrypted stays so, and who had to use TLS has to; what was lost is found."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from demo.mysql import ThrowawayMySQL
from demo.private_server import PrivateServer
from maintenance.workflow.steps.verify import still_guarded
from maintenance.workflow.verdict import failed_checks
from tests.engines.conftest import short_folder
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.lab_mysql import MySQLLab
from tests.engines.mariadb.world import MARKER, PLAIN, action, backed_up, engine_of


@pytest.fixture(scope="module")
def encrypting() -> Iterator[MariaDBLab]:
    """A server of its own, with two keys in a file beside its data."""
    folder = short_folder()
    keys = folder / "keys.txt"
    keys.write_text("".join(f"{number};{secrets.token_hex(32)}\n" for number in (1, 2)))
    keys.chmod(0o644)
    options = {
        "plugin-load-add": "file_key_management",
        "file-key-management-filename": str(keys),
        "innodb-encrypt-tables": "ON",
    }
    try:
        with MariaDBLab.opened(folder, options) as opened:
            yield opened
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lab(encrypting: MariaDBLab) -> Iterator[MariaDBLab]:
    """Tables encrypted by the server's default, by their own option, in partitions; and one that is not."""
    made = encrypting.fresh()
    made.fill()
    for statement in (
        "CREATE TABLE `Kün den` (id INT PRIMARY KEY, iban VARCHAR(40)) ENCRYPTED=YES ENCRYPTION_KEY_ID=2",
        "INSERT INTO `Kün den` VALUES (1, 'DE89 secret')",
        "CREATE TABLE parts (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 2",
        "CREATE TABLE open_to_all (id INT PRIMARY KEY) ENCRYPTED=NO",
    ):
        made.sql(statement)
    yield made
    made.sql("SET GLOBAL innodb_encrypt_tables = ON")


ON_DISK = "encrypted on disk with key 1"
OWN_KEY = ["ENCRYPTED=YES", "ENCRYPTION_KEY_ID=2", "encrypted on disk with key 2"]
AT_FIRST = {"customers": [ON_DISK], "orders": [ON_DISK], "parts": [ON_DISK], "`Kün den`": OWN_KEY}


def test_encrypted_tables_stay_so_through_a_rebuild_and_a_restart(lab: MariaDBLab) -> None:
    with engine_of(lab) as engine:
        assert engine.verifier.encryption() == AT_FIRST
        for table in ("orders", "`Kün den`", "parts"):
            engine.actions.perform(action(table, "rebuild"), False)
        assert engine.verifier.encryption() == AT_FIRST
    lab.server.restart()
    with engine_of(lab) as engine:
        assert engine.verifier.encryption() == AT_FIRST
    lab.server.stop()
    files = list((lab.server.data / lab.database).glob("K*.ibd"))
    lab.server.start()
    assert files
    assert not [file for file in files if b"DE89 secret" in file.read_bytes()]


def test_the_side_copy_of_a_rollback_is_encrypted_before_it_takes_the_place(lab: MariaDBLab) -> None:
    with engine_of(lab) as engine:
        backup = backed_up(engine, lab)
        image = engine.backups.image(backup, engine.verifier.fingerprint(None), lab.folder, "image", PLAIN)
        side = engine.rollback.restore_beside(image, backup, PLAIN)
        assert engine.verifier.encryption(side) == AT_FIRST
        engine.rollback.swap(side, {}, MARKER)
        assert engine.verifier.encryption() == AT_FIRST
        engine.rollback.clean()


def test_a_table_that_lost_its_encryption_is_found(lab: MariaDBLab) -> None:
    with engine_of(lab) as engine:
        before = engine.verifier.encryption()
        lab.sql("ALTER TABLE `Kün den` ENCRYPTED=NO")
        lab.sql("SET GLOBAL innodb_encrypt_tables = OFF")
        engine.actions.perform(action("orders", "rebuild"), False)
        assert failed_checks(still_guarded("encryption", before, engine.verifier.encryption()), []) == [
            "encryption of `Kün den`: lost: ENCRYPTED=YES, ENCRYPTION_KEY_ID=2, encrypted on disk with key 2",
            "encryption of orders: lost: encrypted on disk with key 1",
        ]


class WithKeyring(MySQLLab):
    """A MySQL of its own that keeps its master key in a file."""

    @classmethod
    def server_in(cls, folder: Path, options: Mapping[str, str]) -> PrivateServer:
        return KeyringServer(folder / "mysql", options)


class KeyringServer(ThrowawayMySQL):
    def _install(self) -> None:
        super()._install()
        keyring = {"path": str(self.data / "keyring"), "read_only": False}
        for name, content in (
            ("mysqld.my", {"components": "file://component_keyring_file"}),
            ("component_keyring_file.cnf", keyring),
        ):
            file = self.data / name
            file.write_text(json.dumps(content))
            shutil.chown(file, self.data.owner(), self.data.group())


@pytest.fixture(scope="module")
def mysql_encrypting() -> Iterator[MariaDBLab]:
    folder = short_folder()
    try:
        with WithKeyring.opened(folder) as opened:
            if ("Component_status", "Active") not in opened.sql(
                "SELECT * FROM performance_schema.keyring_component_status"
            ):
                pytest.skip("this MySQL reads no keyring from its data folder")
            yield opened
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.mysql
def test_on_mysql_too_what_is_encrypted_stays_so_through_rebuild_rollback_and_restart(
    mysql_encrypting: MariaDBLab,
) -> None:
    lab = mysql_encrypting.fresh()
    lab.fill()
    lab.sql("CREATE TABLE `Kün den` (id INT PRIMARY KEY, iban VARCHAR(40)) ENCRYPTION='Y'")
    lab.sql("INSERT INTO `Kün den` VALUES (1, 'DE89 secret')")
    lab.sql("CREATE TABLE parts (id INT PRIMARY KEY) ENCRYPTION='Y' PARTITION BY HASH (id) PARTITIONS 2")
    expected = ["ENCRYPTION=Y", "encrypted on disk with key of the server"]
    at_first = {"`Kün den`": expected, "parts": expected}
    with engine_of(lab) as engine:
        assert engine.verifier.encryption() == at_first
        for table in at_first:
            engine.actions.perform(action(table, "rebuild"), False)
        assert engine.verifier.encryption() == at_first
        before = engine.verifier.fingerprint(None)
        backup = backed_up(engine, lab)
        image = engine.backups.image(backup, before, lab.folder, "image", PLAIN)
        side = engine.rollback.restore_beside(image, backup, PLAIN)
        assert engine.verifier.encryption(side) == at_first
        engine.rollback.swap(side, {}, MARKER)
        assert engine.verifier.encryption() == at_first
        assert engine.verifier.fingerprint(None) == before
        engine.rollback.clean()
    lab.server.restart()
    with engine_of(lab) as engine:
        assert engine.verifier.encryption() == at_first
        assert [check for check in engine.verifier.check(None) if not check.passed] == []
        lab.sql("ALTER TABLE `Kün den` ENCRYPTION='N'")
        assert failed_checks(still_guarded("encryption", at_first, engine.verifier.encryption()), []) == [
            "encryption of `Kün den`: lost: ENCRYPTION=Y, encrypted on disk with key of the server"
        ]


def test_an_account_that_must_use_tls_must_still_after_cut_and_release(family_lab: MariaDBLab) -> None:
    lab = family_lab
    user = f"'tls_{lab.database}'@'%'"
    strict = f"'strict_{lab.database}'@'%'"
    lab.sql(f"CREATE USER {user} REQUIRE SSL")
    lab.sql(f"CREATE USER {strict} REQUIRE ISSUER '/CN=ours' AND CIPHER 'AES256-SHA'")
    lab.sql(f"CREATE USER 'elsewhere_{lab.database}'@'%' REQUIRE SSL")
    for name in (user, strict):
        lab.sql(f"GRANT SELECT ON `{lab.database}`.* TO {name}")
    demanded = {user: ["REQUIRE SSL"], strict: ["REQUIRE CIPHER AES256-SHA", "REQUIRE ISSUER /CN=ours"]}
    with lab.engine() as engine:
        assert engine.verifier.tls() == demanded
        engine.lock.fence()
        gate = engine.gate.read_state()
        engine.gate.cut(gate, MARKER)
        assert engine.verifier.tls() == demanded
        engine.gate.open(gate, None)
        assert engine.gate.differences(gate) == []
        assert engine.verifier.tls() == demanded
        lab.sql(f"ALTER USER {user} REQUIRE NONE")
        assert failed_checks(still_guarded("TLS", demanded, engine.verifier.tls()), []) == [
            f"TLS of {user}: lost: REQUIRE SSL"
        ]
        for name in (user, strict, f"'elsewhere_{lab.database}'@'%'"):
            lab.sql(f"DROP USER {name}")
