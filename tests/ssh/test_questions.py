"""Servers that ask: a password, a code, both; asked again where the answer was wrong, and never kept."""

from __future__ import annotations

import base64
import hmac
import secrets
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.access import Access, connection_to
from engine.job import AnswersNeeded, LoginRefused, Node, PassphraseNeeded, Prompt

from ..sshd import Agent, Sshd, User, keygen, log_in

SECRET = "correct horse battery"
ASKS = "PermitRootLogin yes\n"
CHECK = "account required pam_permit.so\nsession required pam_permit.so\n"


def asked(node: Node, access: Access) -> AnswersNeeded:
    with pytest.raises(AnswersNeeded) as question:
        log_in(node, access)
    assert question.value.node == node.name
    return question.value


def give(access: Access, question: AnswersNeeded, *answers: str) -> None:
    for prompt, text in zip(question.prompts, answers, strict=True):
        access.answers[question.login, prompt.text] = text


@pytest.fixture
def passwords(tmp_path: Path) -> Iterator[Sshd]:
    options = f"{ASKS}PasswordAuthentication yes\n"
    with Sshd(tmp_path / "passwords", options=options, users=[User("artist", password=SECRET)]) as sshd:
        yield sshd


def test_a_password(passwords: Sshd) -> None:
    node, access = passwords.node(user="artist", key_file=""), passwords.access()
    question = asked(node, access)
    assert question.message == "artist@127.0.0.1 asks: Password of artist@127.0.0.1"
    assert question.login == f"artist@127.0.0.1:{passwords.port}"
    assert [prompt.is_shown for prompt in question.prompts] == [False]
    assert "Failed password" not in passwords.log.read_text(), "none is tried before one is given"
    give(access, question, "wrong")
    again = asked(node, access)
    assert "did not accept the answer" in again.message
    assert again.prompts == question.prompts
    assert asked(node, access).message == question.message, "a wrong one is not tried again"
    give(access, again, SECRET)
    log_in(node, access)
    log_in(node, access)
    assert SECRET not in repr(access) + str(again) + repr(again)


def test_keys_come_before_a_password(passwords: Sshd, tmp_path: Path) -> None:
    log_in(passwords.node(user="artist"), passwords.access())
    wrong = keygen(tmp_path / "wrong")
    question = asked(passwords.node(user="artist", key_file=str(wrong)), passwords.access())
    assert "takes none of the 1 keys by itself and asks" in question.message


def test_a_locked_key_that_is_done_without(passwords: Sshd, tmp_path: Path) -> None:
    locked = keygen(tmp_path / "locked", passphrase="forgotten")
    node, access = passwords.node(user="artist", key_file=str(locked)), passwords.access()
    with pytest.raises(PassphraseNeeded, match=r"nothing: go on without this key"):
        log_in(node, access)
    access.passphrases[str(locked)] = ""
    give(access, asked(node, access), SECRET)
    log_in(node, access)


def test_a_key_and_a_password_after_it(tmp_path: Path) -> None:
    options = f"{ASKS}PasswordAuthentication yes\nAuthenticationMethods publickey,password\n"
    with Sshd(tmp_path / "both", options=options, users=[User("artist", password=SECRET)]) as sshd:
        node, access = sshd.node(user="artist"), sshd.access()
        question = asked(node, access)
        assert question.prompts == (Prompt("Password of artist@127.0.0.1", is_shown=False),)
        give(access, question, SECRET)
        log_in(node, access)
        with pytest.raises(LoginRefused, match="no key"):
            log_in(sshd.node(user="artist", key_file=""), access)


def test_two_keys_one_after_the_other(tmp_path: Path, agent: Agent) -> None:
    with Sshd(tmp_path / "two", options="AuthenticationMethods publickey,publickey\n") as sshd:
        other = keygen(tmp_path / "other", "-t", "ecdsa")
        with (sshd.folder / "authorized_keys").open("a") as file:
            file.write(other.with_suffix(".pub").read_text())
        with pytest.raises(LoginRefused, match="does not accept the one key"):
            log_in(sshd.node(), sshd.access())
        agent.add(other)
        log_in(sshd.node(), sshd.access())


def test_keyboard_interactive(tmp_path: Path) -> None:
    options = f"{ASKS}UsePAM yes\nKbdInteractiveAuthentication yes\n"
    pam = f"auth required pam_unix.so\n{CHECK}"
    with Sshd(tmp_path / "pam", options=options, users=[User("artist", password=SECRET)], pam=pam) as sshd:
        node, access = sshd.node(user="artist", key_file=""), sshd.access()
        question = asked(node, access)
        assert question.prompts == (Prompt("Password:", is_shown=False),)
        give(access, question, "wrong")
        assert "did not accept" in asked(node, access).message
        assert not access.answers, "a wrong one is not tried again"
        give(access, question, SECRET)
        log_in(node, access)


def code(secret: str) -> str:
    """The one-time code of now (RFC 6238)."""
    counter = struct.pack(">Q", int(time.time()) // 30)
    digest = hmac.digest(base64.b32decode(secret), counter, "sha1")
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4], 'big') & 0x7FFFFFFF) % 10**6:06}"


@pytest.mark.parametrize("methods", ["keyboard-interactive", "publickey,keyboard-interactive"])
def test_a_password_and_a_one_time_code(tmp_path: Path, methods: str) -> None:
    secret = base64.b32encode(secrets.token_bytes(20)).decode()
    (tmp_path / "totp").write_text(f'{secret}\n" WINDOW_SIZE 3\n" TOTP_AUTH\n')
    (tmp_path / "totp").chmod(0o400)
    pam = (
        "auth required pam_unix.so\n"
        f"auth required pam_google_authenticator.so secret={tmp_path}/totp user=root echo_verification_code\n{CHECK}"
    )
    options = f"{ASKS}UsePAM yes\nKbdInteractiveAuthentication yes\nAuthenticationMethods {methods}\n"
    with Sshd(
        tmp_path / "totp-sshd", options=options, users=[User("artist", password=SECRET)], pam=pam
    ) as sshd:
        node, access = sshd.node(user="artist"), sshd.access()
        first = asked(node, access)
        assert [prompt.text for prompt in first.prompts] == ["Password:"]
        give(access, first, SECRET)
        second = asked(node, access)
        assert second.prompts == (Prompt("Verification code:", is_shown=True),)
        give(access, second, "000000")
        assert "did not accept" in asked(node, access).message
        give(access, first, SECRET)
        give(access, second, code(secret))
        log_in(node, access)


def test_what_a_server_asks_cannot_steer_a_terminal(tmp_path: Path) -> None:
    nasty = tmp_path / "nasty"
    nasty.write_text("#!/bin/sh\nprintf '\\033[2Jred\\007\\n'\n")
    nasty.chmod(0o755)
    options = f"{ASKS}UsePAM yes\nKbdInteractiveAuthentication yes\n"
    pam = f"auth optional pam_exec.so stdout {nasty}\nauth required pam_unix.so\n{CHECK}"
    with Sshd(tmp_path / "pam", options=options, users=[User("artist", password=SECRET)], pam=pam) as sshd:
        question = asked(sshd.node(user="artist", key_file=""), sshd.access())
        assert "\033" not in str(question)
        assert all(prompt.text.isprintable() for prompt in question.prompts)


def test_the_ssh_program_never_asks(passwords: Sshd) -> None:
    node = passwords.node(user="artist", key_file="", backend="openssh")
    with pytest.raises(LoginRefused, match=r"without a question \(publickey,password\).*other back end"):
        log_in(node, passwords.access())


def test_a_channel_after_a_password(passwords: Sshd) -> None:
    node, access = passwords.node(user="artist", key_file=""), passwords.access()
    give(access, asked(node, access), SECRET)
    connection = connection_to(node, access)
    connection.connect()
    channel = connection.open("cat")
    channel.write(b"x")
    assert channel.read(1) == b"x"
    channel.close()
