"""Under FSDP (one process, on the CPU): parameters are shards, state dicts are whole, and all promises hold."""

from __future__ import annotations

from pathlib import Path

from helpers import TESTS
from helpers.tiny import fresh_python

SHARDED = """
import sys
sys.path.insert(0, sys.argv[2])
import torch
from peft import PeftModel
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from cuma.errors import AdapterError
from helpers.tiny import adapted, llama, logits, people, tokens

torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}/rendezvous", rank=0, world_size=1)
mesh, whole = init_device_mesh("cpu", (1,)), StateDictOptions(full_state_dict=True, cpu_offload=True)
model = adapted(profile_projection_dim=3)
before = logits(model)
for layer in model.get_base_model().model.layers:
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
assert torch.equal(logits(model), before)

state = get_model_state_dict(model, options=whole)
set_model_state_dict(model, state, options=whole)
model.load_state_dict(model.state_dict())
assert torch.equal(logits(model), before)
damaged = {name: tensor.clone() for name, tensor in state.items()}
damaged["base_model.cuma_profile.default.mean"][0] = float("nan")
try:
    set_model_state_dict(model, damaged, options=whole)
except AdapterError:
    pass
else:
    raise SystemExit("a damaged state was loaded")

model.train()
model(input_ids=tokens(2), labels=tokens(2), profile_embeds=people(2)).loss.backward()
assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
model.eval().save_pretrained(sys.argv[1], state_dict=get_model_state_dict(model, options=whole))
assert torch.equal(logits(PeftModel.from_pretrained(llama(), sys.argv[1])), before)
torch.distributed.destroy_process_group()
"""


def test_sharded_training_saving_and_loading(tmp_path: Path) -> None:
    fresh_python(SHARDED, str(tmp_path), TESTS)
