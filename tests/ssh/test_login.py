"""Logging in, or not, to a real sshd: which keys are offered, in which order, and what is said."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest

from engine.job import ConnectError, LoginRefused, PassphraseNeeded

from ..sshd import Agent, Sshd, keygen, log_in


def test_key_file(sshd: Sshd) -> None:
    log_in(sshd.node(), sshd.access())


def test_agent(sshd: Sshd, agent: Agent) -> None:
    agent.add(sshd.user_key)
    log_in(sshd.node(key_file=""), sshd.access())


def test_usual_key(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    sshd.user_key.rename(tmp_path / ".ssh" / "id_ed25519")
    log_in(sshd.node(key_file=""), sshd.access())


@pytest.mark.parametrize("kind", [("rsa", "2048"), ("ecdsa", "256")])
def test_other_kinds_of_keys(sshd: Sshd, tmp_path: Path, kind: tuple[str, str]) -> None:
    key = keygen(tmp_path / "key", "-t", kind[0], "-b", kind[1])
    (sshd.folder / "authorized_keys").write_text(key.with_suffix(".pub").read_text())
    log_in(sshd.node(key_file=str(key)), sshd.access())


@pytest.mark.parametrize("format_", [(), ("-m", "PEM")])
def test_passphrase(sshd: Sshd, tmp_path: Path, format_: tuple[str, ...]) -> None:
    kind = ("-t", "rsa", "-b", "2048") if format_ else ("-t", "ed25519")
    key = keygen(tmp_path / "locked", *kind, *format_, passphrase="correct horse")
    (sshd.folder / "authorized_keys").write_text(key.with_suffix(".pub").read_text())
    node, access = sshd.node(key_file=str(key)), sshd.access()
    with pytest.raises(PassphraseNeeded, match="is locked") as missing:
        log_in(node, access)
    assert missing.value.key_file == str(key)
    access.passphrases[str(key)] = "wrong"
    with pytest.raises(PassphraseNeeded, match="passphrase .* is wrong"):
        log_in(node, access)
    access.passphrases[str(key)] = "correct horse"
    log_in(node, access)
    assert "correct horse" not in repr(access)


def test_wrong_key(sshd: Sshd, tmp_path: Path) -> None:
    wrong = keygen(tmp_path / "wrong")
    with pytest.raises(LoginRefused, match=r"does not accept the one key.*authorized_keys"):
        log_in(sshd.node(key_file=str(wrong)), sshd.access())


def test_no_key(sshd: Sshd) -> None:
    with pytest.raises(LoginRefused, match="There is no key to log in"):
        log_in(sshd.node(key_file=""), sshd.access())


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), ("nonsense", "not a private key")])
def test_unusable_key_file(sshd: Sshd, tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content)
    with pytest.raises(LoginRefused, match=words):
        log_in(sshd.node(key_file=str(tmp_path / "key")), sshd.access())


def security_key(path: Path) -> None:
    """A private key file as ssh-keygen -t ed25519-sk writes it, for a security key that nobody has."""

    def string(data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + data

    kind = string(b"sk-ssh-ed25519@openssh.com")
    public = kind + string(bytes(32)) + string(b"ssh:")
    private = bytes(8) + public + b"\1" + string(bytes(64)) + string(b"") + string(b"me")
    private += bytes(range(1, 9))[: -len(private) % 8]
    head = b"openssh-key-v1\0" + string(b"none") * 2 + string(b"") + (1).to_bytes(4, "big")
    text = base64.encodebytes(head + string(public) + string(private)).decode()
    path.write_text(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}-----END OPENSSH PRIVATE KEY-----\n")
    path.chmod(0o600)
    path.with_suffix(".pub").write_text(f"{kind[4:].decode()} {base64.b64encode(public).decode()} me\n")


def test_a_key_of_a_kind_that_we_cannot_use_says_who_can(sshd: Sshd, tmp_path: Path) -> None:
    security_key(tmp_path / "sk")
    with pytest.raises(LoginRefused, match=r"not a private key that can be used.*use the ssh program"):
        log_in(sshd.node(key_file=str(tmp_path / "sk")), sshd.access())
    # Where it is only one of those that the configuration names, the others are offered.
    config = f"IdentityFile {tmp_path}/sk\nIdentityFile {sshd.user_key}\n"
    log_in(sshd.node(key_file=""), sshd.access(config=config))


def test_too_many_keys_in_the_agent(sshd: Sshd, tmp_path: Path, agent: Agent) -> None:
    """sshd hangs up after MaxAuthTries (6); the node's own key file comes first and helps."""
    agent.add(*(keygen(tmp_path / f"other{number}") for number in range(8)), sshd.user_key)
    with pytest.raises(LoginRefused, match=r"closed the connection after \d keys.*key file"):
        log_in(sshd.node(key_file=""), sshd.access())
    log_in(sshd.node(), sshd.access())


def test_a_key_that_the_agent_holds_too_is_offered_once(sshd: Sshd, agent: Agent, tmp_path: Path) -> None:
    wrong = keygen(tmp_path / "wrong")
    agent.add(wrong)
    with pytest.raises(LoginRefused, match="does not accept the one key"):
        log_in(sshd.node(key_file=str(wrong)), sshd.access())


@pytest.mark.parametrize("answer", ["echo correct horse"])
def test_a_locked_key_file_needs_no_passphrase_if_the_agent_holds_it(
    sshd: Sshd, agent: Agent, tmp_path: Path
) -> None:
    key = keygen(tmp_path / "locked", passphrase="correct horse")
    (sshd.folder / "authorized_keys").write_text(key.with_suffix(".pub").read_text())
    with pytest.raises(PassphraseNeeded, match="add the key to your SSH agent"):
        log_in(sshd.node(key_file=str(key)), sshd.access())
    agent.add(key)
    log_in(sshd.node(key_file=str(key)), sshd.access())


def test_a_usual_key_that_is_locked_is_asked_for_only_if_no_other_logs_in(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    locked = keygen(tmp_path / ".ssh" / "id_ed25519", passphrase="correct horse")
    with pytest.raises(PassphraseNeeded) as asked:
        log_in(sshd.node(key_file=""), sshd.access())
    assert asked.value.key_file == str(locked)
    assert asked.value.node == "node"
    other = keygen(tmp_path / ".ssh" / "id_rsa", "-t", "rsa", "-b", "2048")
    (sshd.folder / "authorized_keys").write_text(other.with_suffix(".pub").read_text())
    log_in(sshd.node(key_file=""), sshd.access())


def test_a_passphrase_for_a_key_that_has_none_does_no_harm(sshd: Sshd) -> None:
    access = sshd.access()
    access.passphrases[str(sshd.user_key)] = "superfluous"
    log_in(sshd.node(), access)


def test_an_agent_that_hangs(
    sshd: Sshd, agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.ssh_keys.AGENT_S", 1.0)
    agent.freeze()
    start = time.monotonic()
    with pytest.raises(ConnectError, match="SSH agent on this computer did not answer"):
        log_in(sshd.node(key_file=""), sshd.access())
    assert time.monotonic() - start < 5
    log_in(sshd.node(), sshd.access())
    locked = keygen(tmp_path / "locked", passphrase="correct horse")
    with pytest.raises(PassphraseNeeded):
        log_in(sshd.node(key_file=str(locked)), sshd.access())


def test_an_agent_that_is_gone_does_not_hide_the_usual_keys(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "nothing"))
    (tmp_path / ".ssh").mkdir()
    sshd.user_key.rename(tmp_path / ".ssh" / "id_ed25519")
    log_in(sshd.node(key_file=""), sshd.access())


def test_an_agent_whose_owner_says_no(sshd: Sshd, agent: Agent) -> None:
    agent.add(sshd.user_key, options=("-c",))
    with pytest.raises(LoginRefused, match=r"agent did not sign with the key ssh-ed25519 SHA256:"):
        log_in(sshd.node(key_file=""), sshd.access())


@pytest.mark.parametrize("answer", ["exec sleep 5"])
def test_an_agent_whose_owner_says_nothing(sshd: Sshd, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.ssh_login.LOGIN_S", 1.0)
    agent.add(sshd.user_key, options=("-c",))
    start = time.monotonic()
    with pytest.raises(ConnectError, match=r"not answered within 1 s.*SSH agent"):
        log_in(sshd.node(key_file=""), sshd.access())
    assert time.monotonic() - start < 4


@pytest.mark.parametrize("answer", ["exec sleep 5"])
def test_a_server_that_hangs_up_during_the_login_is_not_a_refusal(tmp_path: Path, agent: Agent) -> None:
    with Sshd(tmp_path / "sshd", options="LoginGraceTime 1\n") as sshd:
        agent.add(sshd.user_key, options=("-c",))
        with pytest.raises(ConnectError, match="broke during the login"):
            log_in(sshd.node(key_file=""), sshd.access())


def test_secrets_are_in_no_message(sshd: Sshd, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    key = keygen(tmp_path / "locked", passphrase="opensesame")
    access = sshd.access()
    access.passphrases[str(key)] = "opensesame2"
    with pytest.raises(PassphraseNeeded) as wrong:
        log_in(sshd.node(key_file=str(key)), access)
    access.passphrases[str(key)] = "opensesame"
    with pytest.raises(LoginRefused) as refused:
        log_in(sshd.node(key_file=str(key)), access)
    printed = "".join(capfd.readouterr()) + str(wrong.value) + repr(wrong.value) + str(refused.value)
    assert "opensesame" not in printed
