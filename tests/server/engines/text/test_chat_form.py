"""Which template a model gets: the settings' one, its own, or a form by its vocabulary and name."""

from pathlib import Path

import pytest

from server.core.errors import LoadFailed
from server.core.models import ModelCard, ModelId, ModelKind, TextFacts, TextSettings
from server.core.text_settings import CHAT_FORMS
from server.engines.text.chat_form import LARGEST, chat_form
from server.engines.text.chat_template import ChatTemplate
from server.engines.text.fallback_templates import FORMS, Fallback, choose

TURNS = [{"role": "user", "content": "hi"}]
MORE = [*TURNS, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "why"}]


def card(name: str = "x.bin", container: str = "ggjt v1") -> ModelCard:
    return ModelCard(
        id=ModelId("x"), name=name, kind=ModelKind.TEXT, files=("/x",), text=TextFacts(container=container)
    )


def test_settings_come_before_the_file_and_the_file_before_names() -> None:
    named = TextSettings(chat_template="vicuna")
    assert chat_form(named, card(), "own", ()) == (None, FORMS["vicuna"])
    assert chat_form(TextSettings(), card("vicuna.bin"), "own", ()) == ("own", None)
    assert chat_form(TextSettings(), card("vicuna.bin"), None, ()) == (None, FORMS["vicuna-v0"])


def test_an_unknown_model_gets_the_form_of_its_time() -> None:
    assert chat_form(TextSettings(), card(), None, ()) == (None, FORMS["alpaca"])
    assert chat_form(TextSettings(), card(container=""), None, ()) == (None, FORMS["plain"])


def test_a_file_holds_a_template(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{{ messages }}")
    settings = TextSettings(chat_template=str(path))
    assert chat_form(settings, card(), "own", ()) == ("{{ messages }}", None)
    path.write_bytes(b"x" * (LARGEST + 1))
    with pytest.raises(LoadFailed, match="longer"):
        chat_form(settings, card(), None, ())
    path.unlink()
    with pytest.raises(LoadFailed) as caught:
        chat_form(settings, card(), None, ())
    assert "mine.jinja" in caught.value.message and str(tmp_path) not in caught.value.message


def test_settings_know_the_forms_that_there_are() -> None:
    assert set(CHAT_FORMS) == set(FORMS)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("ggml-alpaca-7b-q4.bin", "alpaca"),
        ("gpt4all-lora-quantized.bin", "alpaca"),
        ("gpt4-x-alpaca-13b-native-ggml-model-q4_0.bin", "alpaca"),
        ("WizardLM-7B.ggmlv3.q4_0.bin", "alpaca"),
        ("ggml-gpt4all-l13b-snoozy.bin", "gpt4all"),
        ("ggml-vicuna-7b-4bit-rev1.bin", "vicuna-v0"),
        ("ggml-vicuna-13b-4bit.bin", "vicuna-v0"),
        ("ggml-vicuna-13b-1.1-q4_2.bin", "vicuna"),
        ("ggml-vic13b-q5_1.bin", "alpaca"),
        ("vicuna-7b-v1.3.ggmlv3.q4_K_M.bin", "vicuna"),
        ("vicuna-13b-1-1.bin", "vicuna"),
        ("Wizard-Vicuna-13B-Uncensored.ggmlv3.q4_0.bin", "vicuna"),
        ("llama-2-7b-chat.ggmlv3.q4_0.bin", "llama-2"),
        ("ggml-model-q4_0.bin", "alpaca"),
    ],
)
def test_names_of_2023(name: str, form: str) -> None:
    assert choose((), name, of_2023=True) == FORMS[form]


def test_turn_tokens_come_before_names() -> None:
    assert choose(("<|im_start|>",), "vicuna.bin") == FORMS["chatml"]


def rendered(form: Fallback, turns: list[dict[str, str]]) -> str:
    return ChatTemplate(form.source, bos="<s>", eos="</s>").render(turns)


def test_forms_of_one_turn() -> None:
    assert rendered(FORMS["alpaca"], TURNS) == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\nhi\n\n### Response:\n"
    )
    assert rendered(FORMS["vicuna"], TURNS).endswith("the user's questions. USER: hi ASSISTANT:")
    assert rendered(FORMS["vicuna-v0"], TURNS).endswith("the human's questions.\n\n### Human: hi\n### Assistant:")
    snoozy = rendered(FORMS["gpt4all"], TURNS)
    assert snoozy.startswith("### Instruction:\nThe prompt below is")
    assert snoozy.endswith("write an appropriate response.\n### Prompt:\nhi\n### Response:\n")
    assert rendered(FORMS["llama-2"], TURNS) == "<s>[INST] hi [/INST]"


def test_forms_of_several_turns() -> None:
    assert rendered(FORMS["alpaca"], MORE).endswith(
        "### Instruction:\nhi\n\n### Response:\nyes\n\n### Instruction:\nwhy\n\n### Response:\n"
    )
    assert rendered(FORMS["vicuna"], MORE).endswith(" USER: hi ASSISTANT: yes</s>USER: why ASSISTANT:")
    assert rendered(FORMS["vicuna-v0"], MORE).endswith(
        "\n\n### Human: hi\n### Assistant: yes\n### Human: why\n### Assistant:"
    )
    assert rendered(FORMS["llama-2"], MORE) == "<s>[INST] hi [/INST] yes </s><s>[INST] why [/INST]"


@pytest.mark.parametrize("form", ["alpaca", "gpt4all", "vicuna", "vicuna-v0", "llama-2"])
def test_a_system_message_takes_the_place_of_the_first_sentence(form: str) -> None:
    text = rendered(FORMS[form], [{"role": "system", "content": "Be brief."}, *TURNS])
    assert text.count("Be brief.") == 1 and text.index("Be brief.") < text.index("hi")
    assert "Below is" not in text and "curious" not in text and "decide which" not in text
