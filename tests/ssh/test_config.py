"""The user's SSH configuration, as the real ssh understands it, and as far as we do where there is none."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import pytest

from engine.access import Access
from engine.job import ConnectError, HostKeyUnknown, Node, NodeError
from engine.known_hosts import KnownHosts
from engine.ssh_config import Target, listed_hosts, resolve

from ..sshd import Agent, Sshd, keygen, log_in

ME = getpass.getuser()


@pytest.fixture(params=["ssh", "no ssh"])
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the ssh program, and on a computer that has none."""
    if request.param == "no ssh":
        monkeypatch.setattr("engine.ssh_config.ssh_program", lambda: None)
    return str(request.param)


def config(folder: Path, text: str) -> Path:
    path = folder / "config"
    path.write_text(text)
    return path


@pytest.mark.usefixtures("program")
def test_what_is_configured(tmp_path: Path) -> None:
    path = config(
        tmp_path,
        """
Port 2200
Host other
  User nobody
Host farm-* !farm-9
  HostName %h.example
  User=artist
  IdentityFile ~/.ssh/farm
  IdentityFile "~/my keys/%r"
  IdentityFile ${DC_KEYS}/third
  IdentitiesOnly yes
  IdentityAgent ~/agent
  CertificateFile ~/.ssh/farm-cert.pub
  HostKeyAlias farm
  UserKnownHostsFile ~/.ssh/farm_hosts ~/more
  GlobalKnownHostsFile /etc/ours
  ConnectTimeout 7
Host farm-1
  User too-late
""",
    )
    os.environ["DC_KEYS"] = "/keys"
    found = resolve(Node("n", "farm-1"), path)
    del os.environ["DC_KEYS"]
    home = Path("~").expanduser()
    assert found == Target(
        "farm-1",
        "farm-1.example",
        2200,
        "artist",
        key_files=(home / ".ssh/farm", home / "my keys/artist", Path("/keys/third")),
        are_keys_named=True,
        certificates=(home / ".ssh/farm-cert.pub",),
        use_only_named_keys=True,
        # ssh -G itself expands this one, to the home that the password database names.
        agent=found.agent,
        known_hosts=(*found.known_hosts[:2], Path("/etc/ours")),
        host_key_alias="farm",
        timeout=7.0,
    )
    assert found.agent.endswith("/agent")
    assert [path.name for path in found.known_hosts[:2]] == ["farm_hosts", "more"]
    assert found.record == ("farm", 22)
    assert found.login == "artist@farm-1.example:2200"
    ninth = resolve(Node("n", "farm-9"), path)
    assert (ninth.host, ninth.port, ninth.user) == ("farm-9", 2200, ME)


@pytest.mark.usefixtures("program")
def test_where_nothing_is_configured(tmp_path: Path) -> None:
    for host in ("somewhere", "10.0.0.7", "::1", "fe80::1%eth0"):
        found = resolve(Node("n", host), config(tmp_path, ""))
        assert (found.host, found.port, found.user, found.timeout) == (host, 22, ME, 10.0)
        assert [path.name for path in found.key_files] == ["id_ed25519", "id_ecdsa", "id_rsa"]
        assert not found.are_keys_named
        assert found.record == (host, 22)
        assert found.agent == found.proxy_command == found.host_key_alias == ""
        assert "known_hosts" in [path.name for path in found.known_hosts]
        assert Path("/etc/ssh/ssh_known_hosts") in found.known_hosts


@pytest.mark.usefixtures("program")
def test_the_node_list_comes_first(tmp_path: Path) -> None:
    text = "Host h\n HostName real\n Port 2200\n User them\n IdentityFile ~/theirs\n"
    path = config(tmp_path, text + "Match user me\n ConnectTimeout 3\n")
    found = resolve(Node("n", "h", 2222, "me", "~/mine"), path)
    assert (found.host, found.port, found.user) == ("real", 2222, "me")
    assert found.key_file == str(Path("~/mine").expanduser())
    assert found.timeout == 3, "Match is told who we are"
    assert resolve(Node("n", "h", 22), path).port == 22, "which is not the same as saying nothing"
    assert resolve(Node("n", "h"), path).port == 2200


@pytest.mark.usefixtures("program")
def test_include_and_match(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b").write_text("Host in-b\n Port 2202\nHost *\n User from-b\n")
    (tmp_path / "more" / "a").write_text("Host in-a\n Port 2201\n")
    text = f'Host none\nInclude {tmp_path}/nowhere/*\nHost *\nInclude "{tmp_path}/more/*"\n'
    path = config(tmp_path, text + "Match originalhost in-a\n ConnectTimeout 5\nMatch host x,y\n Port 1\n")
    for host, port, timeout in (("in-a", 2201, 5), ("in-b", 2202, 10), ("x", 1, 10), ("z", 22, 10)):
        found = resolve(Node("n", host), path)
        assert (found.port, found.timeout, found.user) == (port, timeout, "from-b")


@pytest.mark.parametrize(
    "line",
    ["Nonsense", "Host", 'User "open', "Match exec false\n Port 7", "Match later x\n Port 7", "\x00\xff"],
)
def test_without_ssh_what_cannot_be_understood_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr("engine.ssh_config.ssh_program", lambda: None)
    path = config(tmp_path, f"\ufeffHost h\n HostName real\n{line}\nHost h\n User me\n")
    found = resolve(Node("n", "h"), path)
    assert (found.host, found.port, found.user) == ("real", 22, "me")


def test_what_ssh_itself_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match=r"line 2: Bad configuration option: nonsense") as refused:
        resolve(Node("n", "h"), config(tmp_path, "Host h\nNonsense 1\n"))
    assert refused.value.is_final
    for host in ("-oProxyCommand=x", "a b"):
        with pytest.raises(NodeError, match=r"not the name of a host|invalid characters"):
            resolve(Node("n", host), config(tmp_path, ""))


def test_a_configuration_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.ssh_config.ASK_S", 1.0)
    with pytest.raises(ConnectError, match=r"ssh did not say"):
        resolve(Node("n", "h"), config(tmp_path, 'Match exec "sleep 5"\n User me\n'))


@pytest.mark.usefixtures("program")
def test_jumps(tmp_path: Path) -> None:
    path = config(
        tmp_path,
        """
Host far
  ProxyJump me@one:2201,two,them@[fd00::3]:2203
Host one
  ProxyJump gate
  User not-me
Host two
  HostName two.example
  ProxyJump ignored,since,the,way,is,given
  ProxyCommand ignored
Host gate
  ProxyCommand nc %h %p %% %n
Host direct
  ProxyJump none
Host *
  ProxyJump gate
""",
    )
    found = resolve(Node("n", "far"), path)
    assert [(hop.alias, hop.host, hop.port, hop.user) for hop in found.jumps] == [
        ("gate", "gate", 22, ME),
        ("one", "one", 2201, "me"),
        ("two", "two.example", 22, ME),
        ("fd00::3", "fd00::3", 2203, "them"),
    ]
    assert found.jumps[0].proxy_command == "nc gate 22 % gate"
    assert not any(hop.proxy_command or hop.jumps for hop in found.jumps[1:])
    assert resolve(Node("n", "direct"), path).jumps == ()


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize(
    "text", ["Host *\n ProxyJump a\n", "Host a\n ProxyJump b\nHost b\n ProxyJump c\nHost c\n ProxyJump a\n"]
)
def test_a_way_that_goes_round_in_circles(tmp_path: Path, text: str) -> None:
    with pytest.raises(NodeError, match=r"round in circles|jumphost loop"):
        resolve(Node("n", "a"), config(tmp_path, text))


def test_hosts_that_have_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.ssh_config.system_folder", lambda: tmp_path / "etc")
    ssh = Path("~/.ssh").expanduser()
    ssh.mkdir()
    (ssh / "config.d").mkdir()
    (tmp_path / "etc").mkdir()
    (ssh / "config").write_text(
        'Include config.d/*\nHost one two *.farm !not o?e\nhost = "three" # four\nMatch host five\n'
        "Host github.com\n HostName ssh.github.com\n User git\nHost one\n User git2\n"
        'Include missing\nnonsense\nHost "open\n'
    )
    (ssh / "config.d" / "a").write_text("Host six\nHost *\n  Include ~/.ssh/config.d/deeper/*\n")
    (ssh / "config.d" / "deeper").mkdir()
    (ssh / "config.d" / "deeper" / "b").write_text("Host seven\nInclude ~/.ssh/config.d/deeper/b\n")
    (tmp_path / "etc" / "ssh_config").write_text("Host *\n SendEnv LANG\nHost eight two\n")
    assert listed_hosts() == ["six", "seven", "one", "two", "three", "eight"]
    assert listed_hosts(tmp_path / "nothing") == []


@pytest.mark.parametrize("backend", ["paramiko", "openssh"])
def test_a_host_by_its_name_in_the_configuration(sshd: Sshd, tmp_path: Path, backend: str) -> None:
    theirs = tmp_path / "their hosts"
    theirs.write_text(f"farm {sshd.public_host_key}\n")
    text = (
        f"Host node\n HostName 127.0.0.1\n Port {sshd.port}\n User {ME}\n IdentityFile {sshd.user_key}\n"
        f' HostKeyAlias farm\n UserKnownHostsFile "{theirs}"\n'
    )
    node = Node("n", "node", backend=backend)
    own = tmp_path / "own"
    with pytest.raises(HostKeyUnknown, match=r"host key of farm is not known") as unknown:
        log_in(node, sshd.access(trusted=False, config=text))
    assert (unknown.value.host, unknown.value.port) == ("farm", 22)
    # With the usual files those count that the configuration names, and our own.
    log_in(node, Access(KnownHosts([tmp_path / "usual"], own), config=sshd.folder / "ssh_config"))
    theirs.write_text("")
    access = Access(KnownHosts([tmp_path / "usual"], own), config=sshd.folder / "ssh_config")
    with pytest.raises(HostKeyUnknown):
        log_in(node, access)
    access.known_hosts.add(unknown.value.host, unknown.value.port, unknown.value.key)
    log_in(node, access)
    assert theirs.read_text() == "", "the user's own file stays as it is"


def test_an_agent_of_the_configuration(sshd: Sshd, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    agent.add(sshd.user_key)
    node = sshd.node(key_file="")
    log_in(node, sshd.access())
    with pytest.raises(NodeError, match="no key"):
        log_in(node, sshd.access(config="IdentityAgent none\n"))
    monkeypatch.delenv("SSH_AUTH_SOCK")
    with pytest.raises(NodeError, match="no key"):
        log_in(node, sshd.access())
    log_in(node, sshd.access(config=f"IdentityAgent {agent.socket}\n"))


def test_eight_keys_in_the_agent_and_the_right_one_named(sshd: Sshd, tmp_path: Path, agent: Agent) -> None:
    """sshd hangs up after six: IdentityFile puts a key first, IdentitiesOnly leaves the others out."""
    agent.add(*(keygen(tmp_path / f"other{number}") for number in range(8)), sshd.user_key)
    node = sshd.node(key_file="")
    with pytest.raises(NodeError, match=r"closed the connection after \d keys"):
        log_in(node, sshd.access())
    public = sshd.user_key.with_suffix(".pub")
    # The private half is not needed: the agent has it.
    (tmp_path / "half.pub").write_bytes(public.read_bytes())
    log_in(node, sshd.access(config=f"IdentityFile {tmp_path / 'half'}\n"))
    log_in(node, sshd.access(config=f"IdentityFile {public}\nIdentitiesOnly yes\n"))
    with pytest.raises(NodeError, match="does not accept the one key"):
        log_in(node, sshd.access(config=f"IdentityFile {tmp_path / 'other1'}\nIdentitiesOnly yes\n"))
