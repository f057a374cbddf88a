"""Families of models: each one's template, its calls whatever the model, and its marks inside of messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from agentmesh_models import (
    Engine,
    Message,
    Reply,
    Request,
    Sampling,
    TextDelta,
    ToolCall,
    ToolSpec,
    open_model,
)
from agentmesh_models.template import ChatTemplate, segments
from agentmesh_models.toolformat import detect, form_of, split_calls

pytest.importorskip("llama_cpp", reason="llama-cpp-python runs the models")

# Short templates in the families' documented forms.
LLAMA3 = (
    "{{- bos_token }}{%- if messages[0].role == 'system' %}{%- set lead = messages[0].content %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set lead = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}"
    "{%- if tools %}{{- 'Environment: ipython\\n' }}{%- endif %}{{- lead + '<|eot_id|>' }}"
    "{%- for m in messages %}{%- if m.tool_calls %}"
    "{%- if m.tool_calls | length != 1 %}{{- raise_exception('one call at a time') }}{%- endif %}"
    "{%- set f = m.tool_calls[0].function %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
    '{{- \'{"name": "\' + f.name + \'", "parameters": \' + f.arguments | tojson + "}<|eot_id|>" }}'
    "{%- elif m.role == 'tool' %}{{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + m.content + '<|eot_id|>' }}"
    "{%- else %}{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' }}"
    '{%- if tools and loop.first %}{{- \'Respond with {"name": ..., "parameters": ...}.\\n\' }}'
    "{%- for t in tools %}{{- t | tojson + '\\n\\n' }}{%- endfor %}{%- endif %}{{- m.content + '<|eot_id|>' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)
MISTRAL_LIST = (
    "{{- bos_token }}{%- for m in messages %}{%- if m.role == 'user' %}"
    "{%- if tools and loop.last %}{{- '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{%- endif %}"
    "{{- '[INST]' + m.content + '[/INST]' }}"
    "{%- elif m.role == 'system' %}{{- '[INST]' + m.content + '[/INST]' }}"
    "{%- elif m.tool_calls %}{{- '[TOOL_CALLS][' }}{%- for c in m.tool_calls %}"
    "{%- if c.id | length != 9 %}{{- raise_exception('ids have nine characters') }}{%- endif %}"
    "{{- (c.function | tojson)[:-1] + ', \"id\": \"' + c.id + '\"}' }}{{- '' if loop.last else ', ' }}{%- endfor %}"
    "{{- ']' + eos_token }}"
    "{%- elif m.role == 'tool' %}{%- if m.tool_call_id | length != 9 %}{{- raise_exception('whose?') }}{%- endif %}"
    "{{- '[TOOL_RESULTS]{\"content\": ' + m.content + ', \"call_id\": \"' + m.tool_call_id + '\"}[/TOOL_RESULTS]' }}"
    "{%- else %}{{- m.content + eos_token }}{%- endif %}{%- endfor %}"
)
MISTRAL_ARGS = (
    "{{- bos_token }}{%- if tools %}{{- '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{%- endif %}"
    "{%- for m in messages %}{%- if m.role == 'user' %}{{- '[INST]' + m.content + '[/INST]' }}"
    "{%- elif m.role == 'system' %}{{- '[SYSTEM_PROMPT]' + m.content + '[/SYSTEM_PROMPT]' }}"
    "{%- elif m.role == 'tool' %}{{- '[TOOL_RESULTS]' + m.content + '[/TOOL_RESULTS]' }}"
    "{%- else %}{{- m.content }}{%- for c in m.tool_calls or [] %}"
    "{{- '[TOOL_CALLS]' + c.function.name + '[ARGS]' + c.function.arguments | tojson }}{%- endfor %}{{- eos_token }}"
    "{%- endif %}{%- endfor %}"
)
FUNCTION_GEMMA = (
    "{{- bos_token }}{%- if tools or messages[0].role == 'system' %}{{- '<start_of_turn>developer\\n' }}"
    "{%- if messages[0].role == 'system' %}{{- messages[0].content }}{%- set messages = messages[1:] %}{%- endif %}"
    "{%- for t in tools or [] %}{{- '<start_function_declaration>declaration:' + t.function.name + '{description:<escape>'"
    " + t.function.description + '<escape>}<end_function_declaration>' }}{%- endfor %}"
    "{{- '<end_of_turn>\\n' }}{%- endif %}"
    "{%- for m in messages %}{%- if m.role == 'tool' %}"
    "{{- '<start_function_response>response:' + m.name + '{value:<escape>' + m.content + '<escape>}<end_function_response>' }}"
    "{%- else %}{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + m.content }}"
    "{%- for c in m.tool_calls or [] %}{{- '<start_function_call>call:' + c.function.name + '{' }}"
    "{%- for k, v in c.function.arguments | dictsort %}{{- k + ':' }}"
    "{{- '<escape>' + v + '<escape>' if v is string else v | tojson }}{{- '' if loop.last else ',' }}{%- endfor %}"
    "{{- '}<end_function_call>' }}{%- endfor %}{{- '' if m.tool_calls else '<end_of_turn>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}"
)
GEMMA4 = (
    "{{- bos_token }}{%- for t in tools or [] %}{{- '<|tool>declaration:' + t.function.name + '<tool|>' }}{%- endfor %}"
    "{%- for m in messages %}{{- '<|turn>' + m.role + '\\n' + m.content }}"
    "{%- for c in m.tool_calls or [] %}{{- '<|tool_call>call:' + c.function.name + '{' }}"
    "{%- for k, v in c.function.arguments | dictsort %}{{- k + ':' }}"
    "{{- '<|\"|>' + v + '<|\"|>' if v is string else v | tojson }}{{- '' if loop.last else ',' }}{%- endfor %}"
    "{{- '}<tool_call|>' }}{%- endfor %}{{- '<turn|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|turn>model\\n' }}{%- endif %}"
)
HERMES = (
    "{%- if tools %}{{- '<|im_start|>system\\n# Tools\\n' }}{%- for t in tools %}{{- t | tojson + '\\n' }}{%- endfor %}"
    "{{- '<|im_end|>\\n' }}{%- endif %}{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content }}"
    "{%- for c in m.tool_calls or [] %}"
    '{{- \'<tool_call>\\n{"name": "\' + c.function.name + \'", "arguments": \' + c.function.arguments | tojson + "}\\n</tool_call>" }}'
    "{%- endfor %}{{- '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
FAMILIES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "hermes": ("hermes", HERMES, ()),
    "hermes with control tokens": ("hermes", HERMES, ("<tool_call>", "</tool_call>", "<think>", "</think>")),
    "llama3": ("llama3", LLAMA3, ("<|python_tag|>", "<|eot_id|>", "<|start_header_id|>")),
    "mistral list": ("mistral", MISTRAL_LIST, ("[TOOL_CALLS]", "[INST]", "[/INST]")),
    "mistral args": ("mistral", MISTRAL_ARGS, ("[TOOL_CALLS]", "[ARGS]", "[INST]", "[/INST]")),
    "function gemma": (
        "gemma",
        FUNCTION_GEMMA,
        ("<start_function_call>", "<end_function_call>", "<escape>", "<end_of_turn>", "<start_of_turn>"),
    ),
    "gemma 4": ("gemma", GEMMA4, ("<|tool_call>", "<tool_call|>", '<|"|>', "<|turn>", "<turn|>")),
    "generic": ("generic", "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}", ()),
}
NOW = ToolSpec(
    name="now",
    description="The time.",
    parameters={
        "type": "object",
        "properties": {
            "timezone": {"type": "string", "pattern": "^[A-Z]{3}$"},
            "style": {"enum": ["long", "short"]},
            "note": {"type": "string"},
            "digits": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0, "maximum": 9},
                "maxItems": 3,
            },
        },
        "required": ["timezone"],
    },
)
FIND = ToolSpec(
    name="find",
    parameters={
        "type": "object",
        "properties": {"rate": {"type": "number", "minimum": 0, "maximum": 1}, "deep": {"type": "boolean"}},
        "required": ["rate", "deep"],
    },
)
OPENERS = {
    "hermes": ("<tool_call>",),
    "generic": ("<tool_call>",),
    "llama3": ("<|python_tag|>",),
    "mistral": ("[TOOL_CALLS]",),
    "gemma": ("<start_function_call>", "<|tool_call>"),
}
TOOLS = (NOW, FIND)
CALL = ToolCall(name="now", arguments={"timezone": "UTC", "digits": [1, 2]})


@pytest.mark.parametrize("family", FAMILIES)
def test_the_form_is_told_from_the_template(family: str) -> None:
    name, template, _ = FAMILIES[family]
    assert detect(template) == name


@pytest.mark.parametrize(
    "source",
    [
        "no tool at all",
        "{% if tools %}<tool_call><function=x></function></tool_call>{% endif %}",
        "{{ tools }}<start_of_turn>",
    ],
)
def test_a_form_that_nobody_here_knows_is_told_of_tools_in_words(source: str) -> None:
    assert detect(source) == "generic"


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_as_a_call_is_read_as_that_call(family: str) -> None:
    form = form_of(FAMILIES[family][1])
    assert split_calls(form.write(CALL), TOOLS, form) == ("", (CALL,))


def rendered(family: str, *messages: Message) -> str:
    template = ChatTemplate(FAMILIES[family][1], bos="<s>", eos="</s>")
    return "".join(text for text, _ in segments(template.render(messages, TOOLS)))


@pytest.mark.parametrize(
    ("family", "call"),
    [
        (
            "hermes",
            '<tool_call>\n{"name": "now", "arguments": {"timezone": "UTC", "digits": [1, 2]}}\n</tool_call>',
        ),
        ("llama3", '{"name": "now", "parameters": {"timezone": "UTC", "digits": [1, 2]}}<|eot_id|>'),
        (
            "mistral list",
            '[TOOL_CALLS][{"name": "now", "arguments": {"timezone": "UTC", "digits": [1, 2]}, "id": "call00000"}]</s>',
        ),
        ("mistral args", '[TOOL_CALLS]now[ARGS]{"timezone": "UTC", "digits": [1, 2]}</s>'),
        (
            "function gemma",
            "<start_function_call>call:now{digits:[1, 2],timezone:<escape>UTC<escape>}<end_function_call>",
        ),
        ("gemma 4", '<|tool_call>call:now{digits:[1, 2],timezone:<|"|>UTC<|"|>}<tool_call|>'),
        (
            "generic",
            '<tool_call>\n{"name": "now", "arguments": {"timezone": "UTC", "digits": [1, 2]}}\n</tool_call>',
        ),
    ],
)
def test_an_earlier_call_is_rendered_by_the_template_as_its_models_write_it(family: str, call: str) -> None:
    prompt = rendered(
        family,
        Message(role="user", content="Now?"),
        Message(role="assistant", calls=(CALL,)),
        Message(role="tool", name="now", content='"08:17"'),
        Message(role="user", content="And now?"),
    )
    before, found, after = prompt.partition(call)
    assert found and "Now?" in before and "08:17" in after and "And now?" in after


def test_where_a_template_knows_one_call_a_message_several_follow_one_another() -> None:
    other = ToolCall(name="find", arguments={"rate": 1, "deep": True})
    prompt = rendered(
        "llama3",
        Message(role="user", content="Both!"),
        Message(role="assistant", content="Well.", calls=(CALL, other)),
        Message(role="tool", name="now", content="first"),
        Message(role="tool", name="find", content="second"),
    )
    places = [
        prompt.index(each) for each in ('"name": "now", "par', "first", '"name": "find", "par', "second")
    ]
    assert places == sorted(places)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_mark_of_the_family_acts_inside_of_a_message(
    family: str, make_random_model: Callable[..., Path]
) -> None:
    from agentmesh_models import binding

    _, source, control = FAMILIES[family]
    form = form_of(source)
    binding.load()
    weights = binding.Weights(make_random_model("marks", source, control), gpu_layers=0)
    template = ChatTemplate(source, control=weights.control_texts())

    def tokens(text: str) -> list[int]:
        evil = ToolSpec(name="now", description=text, parameters={"type": "object", "properties": {}})
        prompt = template.render(
            (
                Message(role="user", content=text),
                Message(role="assistant", calls=(ToolCall(name="now", arguments={"note": text}),)),
                Message(role="tool", name="now", content=text),
                Message(role="user", content=text),
            ),
            (evil,),
        )
        return [
            token for piece, special in segments(prompt) for token in weights.tokenize(piece, special=special)
        ]

    marks = {
        token
        for text in {*form.marks, *form.thought, *weights.control_texts()}
        for token in alone(weights, text)
    }
    innocent = [token for token in tokens("x") if token in marks]
    for text in (
        *form.marks,
        *form.thought,
        *weights.control_texts(),
        "<tool_call><tool_call>",
        "<think></think>",
    ):
        assert [token for token in tokens(f"a{text}b") if token in marks] == innocent, text
    weights.close()


def alone(weights: object, text: str) -> list[int]:
    from agentmesh_models import binding

    assert isinstance(weights, binding.Weights)
    found = weights.tokenize(text, special=True)
    return found if len(found) == 1 else []


@pytest.fixture(scope="module", params=FAMILIES)
def noise(request: pytest.FixtureRequest, make_random_model: Callable[..., Path]) -> Iterator[Engine]:
    _, template, control = FAMILIES[request.param]
    engine = open_model(str(make_random_model("family", template, control, n_ctx=4096)), threads=1)
    yield engine
    anyio.run(engine.aclose)


async def reply_of(engine: Engine, request: Request) -> Reply:
    with anyio.fail_after(60):
        text = reasoning = ""
        async for item in engine.generate(request):
            if isinstance(item, Reply):
                assert (item.text, item.reasoning) == (text, reasoning)
                return item
            if isinstance(item, TextDelta):
                text += item.text
            else:
                reasoning += item.text
    raise AssertionError("no reply")


def request_for(seed: int, **changes: object) -> Request:
    values: dict[str, object] = {
        "messages": (Message(role="user", content="Do it."),),
        "tools": TOOLS,
        "max_tokens": 160,
        "sampling": Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed),
    }
    return Request(**{**values, **changes})  # type: ignore[arg-type]


def check(reply: Reply) -> None:
    for call in reply.calls:
        if call.name == "find":
            assert call.arguments.keys() == {"rate", "deep"} and call.arguments["deep"] in (True, False)
            assert 0 <= float(str(call.arguments["rate"])) <= 1
        else:
            zone = call.arguments["timezone"]
            assert call.name == "now" and isinstance(zone, str) and len(zone) == 3 and zone.isupper()
            digits = call.arguments.get("digits", [])
            assert isinstance(digits, list) and len(digits) <= 3
            assert call.arguments.get("style", "long") in ("long", "short")


def test_noise_that_must_call_makes_whole_calls_in_every_family(noise: Engine) -> None:
    async def main() -> None:
        for seed in range(25):
            reply = await reply_of(
                noise, request_for(seed, tool_choice="required", parallel_calls=seed % 2 == 0)
            )
            assert reply.finish == "call" and reply.calls and reply.text == ""
            check(reply)

    anyio.run(main)


def test_noise_that_may_call_is_woken_by_the_family_s_own_opener(noise: Engine) -> None:
    async def main() -> int:
        calls = 0
        for seed in range(30):
            reply = await reply_of(noise, request_for(seed, max_tokens=300))
            check(reply)
            assert (reply.finish == "call") == bool(reply.calls)
            calls += len(reply.calls)
        return calls

    calls = anyio.run(main)
    assert calls >= 1 or noise.info.tool_format == "hermes"  # spelled out, an opener is too long for noise


def test_noise_that_may_not_call_does_not_in_any_family(noise: Engine) -> None:
    async def main() -> None:
        for seed in range(6):
            reply = await reply_of(noise, request_for(seed, tool_choice="none"))
            assert not reply.calls and reply.finish != "call"
            assert not any(mark in reply.text for mark in OPENERS[noise.info.tool_format])

    anyio.run(main)
