"""Makes what lies beside it, with the cuma that is installed: see README.md. Imports nothing of cuma's."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QUESTIONS = (
    ("Is it right to lie to a friend?", ["Yes", "No"], False),
    ("How often do you help strangers?", ["Never", "Sometimes", "Often"], True),
)
PARTIES = ("Democrat", "Republican", "Independent", "Green")
TRAIN = (
    "data.benchmark=data", "backbone.model_name_or_path=base", "adapter.r=2", "adapter.num_experts=3",
    "adapter.last_layers=1", "adapter.router_hidden_dim=4", "training.max_steps=30", "training.learning_rate=2e-2",
    "training.per_device_train_batch_size=4", "training.curve_steps=[]", "training.save_steps=100",
    "evaluation.batch_size=4",
)  # fmt: skip
PEOPLE = ({}, {"party": "Green", "age": 30}, "A retired teacher who lives by the sea.")


def cuma(*words: str) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-m", "cuma", *words], check=True)


def base() -> LlamaForCausalLM:
    """A random model of two layers whose tokens are bytes."""
    marks = ["<|im_start|>", "<|im_end|>", "<|pad|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(letters)}, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.add_special_tokens(marks)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|im_end|>", pad_token="<|pad|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained("base")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(letters) + len(marks), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, initializer_range=0.3,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained("base")
    model.name_or_path = "base"
    return model


def survey() -> None:
    """Invented people of four groups, one of which is held out."""
    drawn = random.Random(0)
    rows = []
    for place, party in enumerate(PARTIES):
        for person in range(16):
            for text, options, ordinal in QUESTIONS:
                weights = [1 + 3 * (option == place % len(options)) for option in range(len(options))]
                answer = drawn.choices(range(len(options)), weights)[0]
                who = {"group": party, "person_id": f"{party} {person}", "profile": {"party": party}}
                rows.append({"question": text, "options": options, "ordinal": ordinal, "answer": answer, **who})
    Path("mine.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    cuma("data", "build", "own", "--source", "mine.jsonl", "--output", "data", "--holdout-groups", "party=Green")


def asked(model: str) -> list[tuple[str, dict[str, Any]]]:
    """A survey question and a conversation, put by each of the people."""
    text, options, _ = QUESTIONS[1]
    chat = {"messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 6, "temperature": 0, "logprobs": True}
    opinions = {"question": text, "options": options, "profiles": list(PEOPLE)}
    return [
        ("opinions", {"model": model, **opinions}),
        *(("chat/completions", {"model": model, **chat, **({"profile": who} if who else {})}) for who in PEOPLE),
    ]


def served(*runs: str) -> list[dict[str, Any]]:
    """What a server is asked of each run, and what it says."""
    words = ["-W", "ignore", "-m", "cuma", "serve", *runs, "--port", "0"]
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split(" at ")[1].split()[0]
        try:
            return [
                {"path": path, "body": body, "numbers": numbers(_post(f"{url}/v1/{path}", body))}
                for run in runs
                for path, body in asked(run)
            ]
        finally:
            server.terminate()


def numbers(reply: dict[str, Any]) -> list[float]:
    """Probabilities of the options and their mass for each person, or the log-probability of each token of a reply."""
    if reply["object"] == "opinions":
        return [value for one in reply["data"] for value in (*one["probabilities"], one["option_mass"])]
    return [token["logprob"] for token in reply["choices"][0]["logprobs"]["content"]]


def _post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


def main() -> None:
    model = base()
    survey()
    cuma("train", "quickstart/gss/cuma", *TRAIN, "--output-dir", "run")
    cuma("evaluate", "run")
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(model, lora).save_pretrained("lora")
    cuma("evaluate", "lora", "--benchmark", "data", "--output-dir", "measured", "--batch-size", "4")
    Path("served.json").write_text(json.dumps(served("run", "lora"), indent=1) + "\n", encoding="utf-8")
    shutil.move("measured/evaluations", "lora-evaluations")
    for folder in ("measured", "run/stages/01-sft/checkpoints"):
        shutil.rmtree(folder)
    for file in (Path("mine.jsonl"), *Path().glob("**/adapter/README.md"), Path("lora/README.md")):
        file.unlink()


if __name__ == "__main__":
    main()
