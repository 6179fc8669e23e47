"""Logging in to an SSH server: by keys, by what it asks, by a password; and what a refusal means.

A server may want several of them one after the other. What only a person can answer ends the attempt
with an error that asks; the answer is there when the next attempt is made.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import paramiko

from .job import AnswersNeeded, ConnectError, LoginRefused, PassphraseNeeded, Prompt
from .known_hosts import fingerprint
from .ssh_config import Target
from .ssh_keys import offers, public

if TYPE_CHECKING:
    from .access import Access

LOGIN_S = 30.0
"""For all keys together; an agent may have to ask its owner."""
MOST_KEYS = 12
MOST_PROMPTS = 4
"""At once; more than anybody asks."""
PROMPT_LENGTH = 200
KEY, ASK, PASSWORD = "publickey", "keyboard-interactive", "password"


class Transport(paramiko.Transport):  # type: ignore[misc] # paramiko has no types
    """Remembers why the server hung up, which paramiko only logs; asks for host keys on record."""

    reason = ""
    wanted_host_keys: tuple[str, ...] = ()
    host_key_names: tuple[str, ...] = paramiko.Transport._preferred_keys  # noqa: SLF001 - it has no other name

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        usual = super().preferred_keys
        wanted = [name for name in self.wanted_host_keys if name in usual]
        return (*wanted, *(name for name in usual if name not in wanted))

    def run(self) -> None:
        # At its end it closes what it runs over, which for a tunnel through another host speaks to that
        # host; where it is gone, its thread would end with a traceback.
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            super().run()

    def _parse_disconnect(self, m: paramiko.Message) -> None:
        m.get_int()
        self.reason = m.get_text()


def log_in(transport: Transport, target: Target, access: Access) -> None:
    """Log in as the target's user.

    Raises LoginRefused, PassphraseNeeded, AnswersNeeded, or ConnectError where trying again may help.
    """
    transport.auth_timeout = LOGIN_S
    _Login(transport, target, access).run()


class _Login:
    def __init__(self, transport: Transport, target: Target, access: Access) -> None:
        self._transport = transport
        self._target = target
        self._access = access
        self._offered: list[bytes] = []
        self._locked: PassphraseNeeded | None = None
        self._deadline = time.monotonic() + LOGIN_S

    def run(self) -> None:
        ways = {KEY: self._by_keys, ASK: self._by_answers, PASSWORD: self._by_password}
        left = self._allowed()
        while left:
            for name, way in ways.items():
                further = way() if name in left else None
                if further is not None:
                    left = further
                    break
            else:
                raise self._refusal(left)

    def _allowed(self) -> list[str]:
        """The ways to log in that the server knows; none if it let us in without a proof."""
        try:
            further: list[str] = self._transport.auth_none(self._target.user)
            return further
        except paramiko.BadAuthenticationType as refused:
            return list(refused.allowed_types)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self._broken(error) from None

    def _refusal(self, left: list[str]) -> LoginRefused:
        if self._locked is not None:
            return self._locked
        target, count = self._target, len(self._offered)
        keys = f"{count} keys" if count != 1 else "one key"
        if KEY not in left and not count:
            message = f"{target.user}@{target.host} is let in only by {', '.join(left)}."
            return LoginRefused(message, "Use the node's other back end, the ssh program.")
        return LoginRefused(
            f"{target.user}@{target.host} does not accept the {keys} that could be offered."
            if count
            else f"There is no key to log in to {target.user}@{target.host} with.",
            "Set the node's user and key file; the public key belongs into ~/.ssh/authorized_keys there.",
        )

    def _by_keys(self) -> list[str] | None:
        """Offer keys until one is taken: what is wanted beyond it, None if none was."""
        with contextlib.closing(offers(self._target, self._access.passphrases)) as found:
            for key in found:
                if isinstance(key, PassphraseNeeded):
                    self._locked = self._locked or key
                    continue
                # A key that the agent holds as well must not spend one of the server's MaxAuthTries.
                if public(key) in self._offered:
                    continue
                if len(self._offered) == MOST_KEYS:
                    break
                self._offered.append(public(key))
                further = self._offer(key)
                if further is not None:
                    return further
                if time.monotonic() > self._deadline:
                    raise ConnectError(
                        f"The login was not answered within {LOGIN_S:.0f} s.",
                        "Does your SSH agent wait for a confirmation, or is the server overloaded?",
                    )
        if self._locked is not None:
            raise self._locked
        return None

    def _offer(self, key: paramiko.PKey) -> list[str] | None:
        try:
            further: list[str] = self._transport.auth_publickey(self._target.user, key)
            return further
        except (OSError, EOFError, ValueError, paramiko.SSHException) as error:
            if self._transport.is_active():
                return None
            if "signing" in str(error):
                raise LoginRefused(
                    f"Your SSH agent did not sign with the key {key.get_name()} {fingerprint(key.get_base64())}.",
                    "Was it declined? Log in with another key by setting the node's key file.",
                ) from None
            raise self._broken(error) from None

    def _by_answers(self) -> list[str] | None:
        """Answer what the server asks, in as many rounds as it likes."""
        target, access = self._target, self._access
        given: dict[str, str] = {}
        unanswered: list[AnswersNeeded] = []
        first: tuple[Prompt, ...] = ()

        def answer(_title: str, _instructions: str, fields: list[tuple[str, bool]]) -> list[str]:
            nonlocal first
            prompts = tuple(Prompt(_clean(text), is_shown) for text, is_shown in fields[:MOST_PROMPTS])
            first = first or prompts
            answers = [access.answers.get((target.login, prompt.text)) for prompt in prompts]
            # What is asked a second time was answered wrongly.
            is_wrong = any(prompt.text in given for prompt in prompts)
            if is_wrong or None in answers:
                unanswered.append(self._question(prompts, is_wrong=is_wrong))
                raise paramiko.SSHException("not answered yet")
            said = [text or "" for text in answers]
            given.update(zip((prompt.text for prompt in prompts), said, strict=True))
            return said

        try:
            further: list[str] = self._transport.auth_interactive(target.user, answer)
            return further
        except (OSError, EOFError, ValueError, paramiko.SSHException) as error:
            if unanswered:
                for prompt in unanswered[0].prompts:
                    access.answers.pop((target.login, prompt.text), None)
                raise unanswered[0] from None
            if given:
                for text in given:
                    access.answers.pop((target.login, text), None)
                raise self._question(first, is_wrong=True) from None
            if not self._transport.is_active():
                raise self._broken(error) from None
            return None  # It asks nothing and refuses.

    def _by_password(self) -> list[str] | None:
        target, answers = self._target, self._access.answers
        prompt = Prompt(f"Password of {target.user}@{target.host}", is_shown=False)
        password = answers.get((target.login, prompt.text))
        if password is None:
            raise self._question((prompt,), is_wrong=False)
        try:
            further: list[str] = self._transport.auth_password(target.user, password, fallback=False)
            return further
        except (OSError, EOFError, paramiko.SSHException) as error:
            if not self._transport.is_active() and "too many" not in self._transport.reason.lower():
                raise self._broken(error) from None
            del answers[target.login, prompt.text]
            raise self._question((prompt,), is_wrong=True) from None

    def _question(self, prompts: tuple[Prompt, ...], *, is_wrong: bool) -> AnswersNeeded:
        login = f"{self._target.user}@{self._target.host}"
        count = len(self._offered)
        if is_wrong:
            message = f"{login} did not accept the answer."
        elif count:
            message = f"{login} takes none of the {count} keys by itself and asks: {_list(prompts)}"
        else:
            message = f"{login} asks: {_list(prompts)}"
        return AnswersNeeded(
            message,
            "It is kept in memory only. With a key (ssh-copy-id) or an SSH agent nothing would be asked.",
            "",
            login=self._target.login,
            prompts=prompts,
        )

    def _broken(self, error: Exception) -> ConnectError | LoginRefused:
        if "too many authentication failures" in self._transport.reason.lower():
            return LoginRefused(
                f"The server closed the connection after {len(self._offered)} keys that it does not accept.",
                "Set the node's key file, which is offered first; the server's MaxAuthTries is the limit.",
            )
        return ConnectError(f"The connection broke during the login ({error}).")


def _clean(text: str) -> str:
    """A server's words as one line that can be shown: nothing in it may steer a terminal."""
    words = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(words.split())[:PROMPT_LENGTH]


def _list(prompts: tuple[Prompt, ...]) -> str:
    return ", ".join(prompt.text.rstrip(": ") for prompt in prompts)
