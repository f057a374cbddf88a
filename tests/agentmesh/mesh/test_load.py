from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.errors import MeshFileError
from agentmesh.mesh import ModelSpec, find_log, load_mesh
from agentmesh_models import Sampling

Refused = Callable[[str], MeshFileError]

GOOD = """\
[mesh]
name = "desk"

[dialogue]
pattern = "orchestrator"
lead = "front"

[dialogue.limits]
turns = 5

[models.small]
path = "qwen.gguf"
n_ctx = 4096

[agents.front]
model = "nano"
role = "You pass questions on. You are brief."
peers = ["math"]

[agents.math]
model = "small"
role = "You calculate."
about = "Calculates."
tools = ["calculator.evaluate", "notes"]

[servers.calculator]
builtin = "calculator"

[servers.notes]
builtin = "notes"
options = { folder = "texts" }

[servers.files]
command = ["sh", "server"]
env = { HOME = "x" }
timeout = 5
"""


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_a_good_file_becomes_a_mesh(folder: Path) -> None:
    (folder / "mesh.toml").write_text(GOOD)
    mesh = load_mesh(folder)
    assert mesh.name == "desk"
    assert mesh.origin == "agentmesh.local/desk"
    assert mesh.path == folder / "mesh.toml"
    assert mesh.folder == folder
    assert mesh.log_place.ledger == folder / ".agentmesh" / "ledger.db"
    assert mesh.log_place.keys == folder / ".agentmesh" / "keys"
    assert mesh.digest == hashlib.sha256(GOOD.encode()).hexdigest()
    assert list(mesh.agents) == ["front", "math"]
    assert mesh.agents["front"].about == "You pass questions on."
    assert mesh.agents["math"].about == "Calculates."
    assert mesh.agents["math"].tools == ("calculator.evaluate", "notes")
    assert mesh.dialogue.limits.turns == 5
    assert mesh.dialogue.limits.identical_calls == 3
    assert mesh.servers["files"].command == ("sh", "server")
    assert mesh.servers["files"].timeout == 5.0
    assert mesh.model_spec("front") == ModelSpec(path="nano")
    assert mesh.model_spec("math") == ModelSpec(path="qwen.gguf", n_ctx=4096)


def test_the_layout_is_the_dialogues_unless_an_agent_has_its_own(folder: Path) -> None:
    text = GOOD.replace('role = "You calculate."', 'role = "You calculate."\nlayout = "agent"')
    (folder / "mesh.toml").write_text(text)
    mesh = load_mesh(folder)
    assert (mesh.dialogue.layout, mesh.dialogue.overflow, mesh.dialogue.rules) == ("shared", "drop", None)
    assert (mesh.layout("front"), mesh.layout("math")) == ("shared", "agent")


def test_an_agent_samples_as_the_models_package_does_where_the_file_says_nothing(folder: Path) -> None:
    (folder / "mesh.toml").write_text(GOOD)
    assert load_mesh(folder).agents["front"].sampling(7) == Sampling(seed=7)


MISTAKES = [
    # (replaced, by, reason, key, where its line is found, what the message says)
    ("turns = 5", "turn = 5", "unknown_key", "dialogue.limits.turn", "turn =", "did you mean 'turns'?"),
    ("turns = 5", 'turns = "5"', "bad_value", "dialogue.limits.turns", "turns =", "must be a whole number"),
    ("turns = 5", "turns = 0", "bad_value", "dialogue.limits.turns", "turns =", "greater than or equal to 1"),
    ('name = "desk"', 'name = "my desk"', "bad_value", "mesh.name", "name =", "letters, digits"),
    ('name = "desk"', "", "missing", "mesh.name", "[mesh]", "is missing"),
    ('name = "desk"', 'name = "d"\norigin = "a b"', "bad_value", "mesh.origin", "origin", "visible ASCII"),
    ('"orchestrator"', '"ring"', "bad_value", "dialogue.pattern", "pattern", "'chain', 'round_robin'"),
    (
        "[dialogue]",
        '[dialogue]\nlayout = "same"',
        "bad_value",
        "dialogue.layout",
        "layout",
        "must be one of 'shared' or 'agent'",
    ),
    (
        "[dialogue]",
        '[dialogue]\noverflow = "cut"',
        "bad_value",
        "dialogue.overflow",
        "overflow",
        "must be one of 'drop', 'summarise' or 'stop'",
    ),
    (
        "[dialogue]",
        '[dialogue]\noverflw = "drop"',
        "unknown_key",
        "dialogue.overflw",
        "overflw",
        "did you mean 'overflow'?",
    ),
    ("[dialogue]", '[dialogue]\nrules = ""', "bad_value", "dialogue.rules", "rules", "must not be empty"),
    (
        'role = "You calculate."',
        'role = "r"\nlayout = "own"',
        "bad_value",
        "agents.math.layout",
        "layout",
        "must be one of 'shared' or 'agent'",
    ),
    (
        'role = "You calculate."',
        'role = "r"\ntop_p = 0',
        "bad_value",
        "agents.math.top_p",
        "top_p",
        "should be greater than 0",
    ),
    (
        'role = "You calculate."',
        'role = "r"\nmin_p = 1',
        "bad_value",
        "agents.math.min_p",
        "min_p",
        "should be less than 1",
    ),
    (
        'role = "You calculate."',
        'role = "r"\ntop_k = 0.5',
        "bad_value",
        "agents.math.top_k",
        "top_k",
        "must be a whole number",
    ),
    (
        'role = "You calculate."',
        'role = "r"\nrepeat_penalty = nan',
        "bad_value",
        "agents.math.repeat_penalty",
        "repeat_",
        "must be a finite number",
    ),
    (
        'role = "You calculate."',
        'role = "r"\nparallel_calls = 1',
        "bad_value",
        "agents.math.parallel_calls",
        "parallel",
        "must be true or false",
    ),
    ('lead = "front"', "", "missing", "dialogue.lead", "[dialogue]", "needs the agent that leads"),
    ('lead = "front"', 'lead = "frond"', "unknown_agent", "dialogue.lead", "lead =", "did you mean 'front'?"),
    ('"orchestrator"', '"chain"', "unused_key", "dialogue.lead", "lead =", "'orchestrator' only"),
    ('role = "You calculate."', "", "missing", "agents.math.role", "[agents.math]", "is missing"),
    ('["math"]', '["maths"]', "unknown_agent", "agents.front.peers", "peers =", "did you mean 'math'?"),
    ('["math"]', '["front"]', "names_itself", "agents.front.peers", "peers =", "names itself"),
    ('["math"]', '"math"', "bad_value", "agents.front.peers", "peers =", "must be a list"),
    ('["math"]', "[7]", "bad_value", "agents.front.peers", "peers =", "must be text in quotes"),
    ('["math"]', '["math", "math"]', "repeated", "agents.front.peers", "peers =", "given twice"),
    ('"small"', '"smal"', "unknown_model", "agents.math.model", 'model = "smal"', "did you mean 'small'?"),
    (
        '"small"',
        '"gpt-7"',
        "unknown_model",
        "agents.math.model",
        'model = "gpt',
        "no model 'gpt-7'; use nano, a name from `agentmesh models list --all`, one under [models]",
    ),
    (
        '"small"',
        '"gpt-7"',
        "unknown_model",
        "agents.math.model",
        'model = "gpt',
        "the path of a .gguf file, or openai:URL#MODEL",
    ),
    ('"small"', '"nanno"', "unknown_model", "agents.math.model", 'model = "nanno"', "did you mean 'nano'?"),
    (
        '"small"',
        '"qwen3-06b"',
        "unknown_model",
        "agents.math.model",
        'model = "qwen3-06b"',
        "no model 'qwen3-06b'; did you mean 'qwen3-0.6b'?",
    ),
    (
        '"small"',
        '"qwen3-0.6b"',
        "unknown_model",
        "agents.math.model",
        'model = "qwen3',
        "qwen3-0.6b is not on this machine yet (0.6 GB); agentmesh models pull qwen3-0.6b",
    ),
    ('"qwen.gguf"', '"qwen"', "unknown_model", "models.small.path", 'path = "qwen"', "mean 'qwen.gguf'?"),
    ('"small"', '"hf:a"', "unknown_model", "agents.math.model", "hf:", "hf:owner/repo"),
    (
        '"small"',
        '"hf:a/b/c.gguf"',
        "unknown_model",
        "agents.math.model",
        "hf:",
        "hf:a/b/c.gguf is not on this machine; agentmesh models pull hf:a/b/c.gguf",
    ),
    (
        "n_ctx = 4096",
        "parallel = 0",
        "bad_value",
        "models.small.parallel",
        "parallel",
        "greater than or equal",
    ),
    ("n_ctx = 4096", "parallel = 65", "bad_value", "models.small.parallel", "parallel", "equal to 64"),
    ("n_ctx = 4096", "exact = 1", "bad_value", "models.small.exact", "exact", "must be true or false"),
    ('"qwen.gguf"', '"gone.gguf"', "model_not_found", "models.small.path", "path =", "no such file"),
    (
        '"calculator.evaluate"',
        '"calculater.evaluate"',
        "unknown_server",
        "agents.math.tools",
        "tools =",
        "no server 'calculater'; did you mean 'calculator'?",
    ),
    ("[agents.math]", "[agents.host]", "reserved_name", "agents.host", "[agents.host]", "AgentMesh itself"),
    ("[agents.math]", '[agents."a b"]', "bad_name", "agents.a b", '[agents."', "begins with a letter"),
    ("[agents.math]", "[agents.Front]", "bad_name", "agents.Front", "[agents.F", "upper and lower case"),
    (
        "[servers.files]",
        "[servers.peers]",
        "reserved_name",
        "servers.peers",
        "[servers.p",
        "AgentMesh itself",
    ),
    (
        'builtin = "calculator"',
        'builtin = "calc"',
        "unknown_builtin",
        "servers.calculator.builtin",
        'builtin = "calc"',
        "no built-in server 'calc'",
    ),
    (
        "folder =",
        "folders =",
        "unknown_option",
        "servers.notes.options.folders",
        "folders",
        "did you mean 'folder'?",
    ),
    ('"texts"', '"gone"', "folder_not_found", "servers.notes.options.folder", '"gone"', "no such folder"),
    ('command = ["sh", "server"]', "", "bad_server", "servers.files", "[servers.files]", "exactly one"),
    ("timeout = 5", 'url = "http://x"', "bad_server", "servers.files", "[servers.files]", "command and url"),
    ("timeout = 5", "timeout = -1", "bad_value", "servers.files.timeout", "timeout", "greater than 0"),
    ('["sh", "server"]', "[]", "bad_value", "servers.files.command", "command", "must name a program"),
    (
        'about = "Calculates."',
        'prompt = "{tsak}"',
        "unknown_placeholder",
        "agents.math.prompt",
        "prompt",
        "'task'?",
    ),
    (
        'about = "Calculates."',
        'checks = ["me"]',
        "unknown_agent",
        "agents.math.checks",
        "checks",
        "no agent 'me'",
    ),
    ('peers = ["math"]', 'checks = ["math"]', "missing", "agents.front.checks", "checks", "with a tool"),
    ("[models.small]", "[modles.small]", "unknown_key", "modles", "[modles", "did you mean 'models'?"),
]


@pytest.mark.parametrize(
    ("old", "new", "reason", "key", "at", "says"), MISTAKES, ids=[f"{m[3]}-{m[2]}" for m in MISTAKES]
)
def test_a_mistake_is_told_with_key_line_and_help(
    folder: Path, old: str, new: str, reason: str, key: str, at: str, says: str, refused: Refused
) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    error = refused(text)
    told = {mistake.key: mistake for mistake in error.mistakes}
    assert key in told, error.message
    assert told[key].reason == reason
    assert told[key].line == line_of(text, at)
    assert says in told[key].text
    assert f"{folder / 'mesh.toml'}:{told[key].line}: {key}: " in error.message


def test_two_agents_of_one_name_are_told_plainly(refused: Refused) -> None:
    text = GOOD + '\n[agents.math]\nmodel = "nano"\nrole = "x"\n'
    error = refused(text)
    assert error.reason == "repeated"
    assert error.line == text[: text.rindex("[agents.math]")].count("\n") + 1
    first = line_of(text, "[agents.math]")
    assert f"two agents are named 'math'; the first is at line {first}" in error.message


def test_two_inline_agents_of_one_name_are_told_plainly(refused: Refused) -> None:
    text = '[mesh]\nname = "d"\n[agents]\na = { model = "nano", role = "x" }\na = { model = "nano", role = "y" }\n'
    error = refused(text)
    assert "two agents are named 'a'; the first is at line 4" in error.message
    assert error.line == 5


def test_a_key_given_twice_is_told_with_both_lines(refused: Refused) -> None:
    error = refused('[mesh]\nname = "a"\nname = "b"\n')
    assert error.message.endswith("mesh.toml:3: mesh.name: this key is given twice; the first is at line 2")


def test_a_cycle_of_peers_is_shown(refused: Refused) -> None:
    text = GOOD.replace('about = "Calculates."', 'peers = ["third"]')
    text += '\n[agents.third]\nmodel = "nano"\nrole = "x"\npeers = ["front"]\n'
    error = refused(text)
    assert error.reason == "peer_cycle"
    assert error.key == "agents.front.peers"
    assert "front -> math -> third -> front" in error.message
    assert len(error.mistakes) == 1


def test_several_mistakes_are_told_at_once_in_the_order_of_the_file(refused: Refused) -> None:
    text = GOOD.replace("turns = 5", "turn = 5").replace('["math"]', '["maths"]').replace("timeout", "timout")
    error = refused(text)
    assert [mistake.key for mistake in error.mistakes] == [
        "dialogue.limits.turn",
        "agents.front.peers",
        "servers.files.timout",
    ]


def test_at_most_ten_mistakes_are_listed(refused: Refused) -> None:
    error = refused('[mesh]\nname = "d"\n' + "\n".join(f"key{n} = 1" for n in range(14)) + "\n")
    assert len(error.message.splitlines()) == 11
    assert error.message.endswith("and 4 more")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('[mesh]\nname = "d\n', 2, "not TOML"),
        ("[mesh]\nname = \n", 2, "invalid value"),
        ("[mesh\n", 1, "not TOML"),
        ('[mesh]\nname = """d\n\n', 3, "at the end of the file"),
    ],
)
def test_broken_toml_is_told_with_its_line(refused: Refused, text: str, line: int, says: str) -> None:
    error = refused(text)
    assert error.reason == "syntax"
    assert error.line == line
    assert says in error.message


def test_bytes_that_are_no_text_are_told_with_their_line(folder: Path) -> None:
    path = folder / "mesh.toml"
    path.write_bytes(b'[mesh]\nname = "\xff"\n')
    with pytest.raises(MeshFileError, match="mesh.toml:2: is not UTF-8 text"):
        load_mesh(path)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(folder: Path) -> None:
    (folder / "mesh.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_mesh(folder).name == "desk"


def test_a_missing_file_says_how_to_make_one(folder: Path) -> None:
    with pytest.raises(MeshFileError) as caught:
        load_mesh(folder / "gone.toml")
    assert caught.value.reason == "not_found"
    assert caught.value.hint and "agentmesh init" in caught.value.hint


def test_a_deeply_nested_file_is_a_mistake_and_no_crash(refused: Refused) -> None:
    assert refused("a = " + "[" * 5000 + "]" * 5000).reason in {"syntax", "unknown_key"}


def test_a_mesh_without_agents_is_refused(refused: Refused) -> None:
    error = refused('[mesh]\nname = "d"\n')
    assert "needs at least one agent" in error.message


def test_an_empty_file_says_how_a_mesh_file_begins(refused: Refused) -> None:
    assert "a mesh file begins with [mesh]" in refused("").message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("agents = 5", "mesh.toml:2: agents: must be a table"),
        ('agents = { a = "x" }', "mesh.toml:2: agents.a: must be a table"),
        ('[[agents.a]]\nmodel = "nano"', "agents.a: must be a table"),
        ("dialogue = []", "mesh.toml:2: dialogue: must be a table"),
        ('dialogue.order = "a"', "mesh.toml:2: dialogue.order: must be a list"),
        ("dialogue.limits.seconds = inf", "dialogue.limits.seconds: must be a finite number"),
        ("dialogue.rounds = true", "dialogue.rounds: must be a whole number"),
        ("dialogue.rounds = 1.5", "dialogue.rounds: must be a whole number"),
        (
            "[servers.n]\nbuiltin = 'notes'\noptions.folder = 3",
            "servers.n.options.folder: must be text in quotes",
        ),
        ("[servers.n]\ncommand = 'npx x'", "servers.n.command: must be a list"),
        ("[servers.n]\nurl = 'ftp://x'", "servers.n.url: must begin with http:// or https://"),
        ("[servers.n]\ncommand = ['x']\ncwd = 'gone'", "servers.n.cwd: no such folder"),
        (
            "[servers.n]\nurl = 'http://x'\nenv = { A = 'b' }",
            "servers.n.env: has a meaning beside 'command' only",
        ),
        (
            "[models.x]\npath = 'x.gguf'\nn_ctx = 1",
            "models.x.n_ctx: input should be greater than or equal to 64",
        ),
        ('mesh.memory = "6 gigs"', 'mesh.memory: must be a size such as "6 GB"'),
        ("mesh.memory = 6000000", 'mesh.memory: must be a size such as "6 GB"'),
        ('mesh.memory = "0 GB"', "mesh.memory: must be from 1 B"),
        (
            "[models.x]\npath = 'openai:http://me:secret@gpu/v1'",
            "models.x.path: an endpoint's URL must not hold a user or a password",
        ),
        ("[models.x]\npath = 'openai:gpu:8080'", "models.x.path: an endpoint's address begins with http://"),
        (
            "[models.x]\npath = 'openai:http://gpu/v1'\napi_key_env = 'sk-1234'",
            "models.x.api_key_env: must be the name of an environment variable, never the key itself",
        ),
        (
            "[models.x]\npath = 'openai:http://gpu/v1'\nthreads = 2",
            "models.x.threads: has a meaning for a model file only",
        ),
        ("[models.x]\npath = 'nano'\ntimeout = 2", "models.x.timeout: has a meaning for an endpoint"),
        (
            "[models.x]\npath = 'openai:http://gpu/v1'\ntimeout = 0",
            "models.x.timeout: input should be greater",
        ),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_in_plain_words(refused: Refused, text: str, says: str) -> None:
    lines = f'mesh.name = "d"\n{text}\n'
    assert says in refused(lines).message


SERVER = 'mesh.name = "d"\n[agents.a]\nmodel = "nano"\nrole = "You."\ntools = ["s"]\n[servers.s]\n'


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("builtin = 'notes'", 6, "servers.s.options: is missing: the server 'notes' needs a folder"),
        ("command = ['no-such-program']", 7, "the program 'no-such-program' is not found"),
        ("command = ['./gone']", 7, "the program './gone' is not found"),
        ("command = ['sh']\nenv = { 'A=B' = 'x' }", 8, "is no name of an environment variable"),
        ("command = ['sh', 'a\\u0000b']".replace("'", '"'), 7, "characters that are not allowed"),
        ("url = 'http://:80/x'", 7, "must begin with http:// or https:// and name a host"),
        ("url = 'http://[::1'", 7, "must begin with http:// or https:// and name a host"),
        ("url = 'http://localhost:99999999/x'", 7, "must begin with http:// or https:// and name a host"),
        ("command = ['sh']\ncwd = '~nosuchuser/x'", 8, "no such folder"),
    ],
)
def test_a_server_that_cannot_be_meant_is_told_before_anything_starts(
    refused: Refused, text: str, line: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENTMESH_NOTES", raising=False)
    error = refused(SERVER + text)
    assert error.line == line
    assert says in error.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[agents.b]\nmodel = 'nano'\nrole = 'x'\ntools = ['s.']", "'s.' names no tool: write 's'"),
        ("[agents.b]\nmodel = '~nosuchuser/x.gguf'\nrole = 'x'", "agents.b.model: no such file"),
        ("[models.m]\npath = 'nano'\nthreads = 100000000", "models.m.threads: input should be less"),
        ("[dialogue.limits]\nturns = " + "9" * 5000, "mesh.toml:9: not TOML: exceeds the limit"),
        ("[a" + ".a" * 3000 + "]", "is nested too deeply"),
    ],
)
def test_what_python_itself_would_trip_over_is_a_mistake_too(refused: Refused, text: str, says: str) -> None:
    message = refused(f"{SERVER}builtin = 'calculator'\n{text}\n").message
    assert says.lower() in message.lower()


def test_a_long_row_of_peers_is_no_circle_and_no_crash(folder: Path) -> None:
    text = 'mesh.name = "d"\n'
    for number in range(1500):
        peer = f"peers = ['a{number - 1}']\n" if number else ""
        text += f"[agents.a{number}]\nmodel = 'nano'\nrole = 'x'\n{peer}"
    (folder / "mesh.toml").write_text(text)
    assert len(load_mesh(folder).agents) == 1500


def test_a_tilde_is_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = folder / "home"
    (home / "notes").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    options = "options = { folder = '~/notes' }"
    text = f"mesh.name = 'd'\nmesh.ledger = '~/l.db'\n{SERVER[16:]}builtin = 'notes'\n{options}\n"
    (folder / "mesh.toml").write_text(text)
    assert load_mesh(folder).log_place.ledger == home / "l.db"
    assert find_log(folder).ledger == home / "l.db"


@given(st.data())
def test_no_damage_to_a_mesh_file_is_more_than_a_mistake(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    start = data.draw(st.integers(0, len(GOOD) - 1))
    end = data.draw(st.integers(start, min(len(GOOD), start + 40)))
    damaged = GOOD[:start] + data.draw(st.text(max_size=6)) + GOOD[end:]
    (folder / "mesh.toml").write_bytes(damaged.encode("utf-8", "replace"))
    try:
        load_mesh(folder)
    except MeshFileError as error:
        assert error.mistakes
        assert all(mistake.line is None or mistake.line >= 1 for mistake in error.mistakes)
