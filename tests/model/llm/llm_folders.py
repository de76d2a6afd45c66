# ruff: noqa: C408, E501
"""Tiny LLM folders with random weights, one a family, and damaged ones, to try loading, `inspect` and `train` on.

The tokenizer is a byte-level BPE of 300 entries, ids below every vocabulary here.
"""

import json
import shutil
from pathlib import Path

import torch
import transformers as T
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

BASE = dict(
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    vocab_size=1024,
    max_position_embeddings=2048,
    pad_token_id=2,
    bos_token_id=0,
    eos_token_id=1,
)
GQA = dict(num_key_value_heads=2)
SHORT = {**BASE, "max_position_embeddings": 512}
PAD1 = {**BASE, "max_position_embeddings": 514, "pad_token_id": 1, "eos_token_id": 2}
VISION = dict(
    hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
)
FAMILIES = {
    "llama": lambda: T.LlamaConfig(**BASE, **GQA),
    "llama_headdim": lambda: T.LlamaConfig(**BASE, **GQA, head_dim=32),
    "llama_bias": lambda: T.LlamaConfig(**BASE, **GQA, attention_bias=True, mlp_bias=True),
    "mistral_window": lambda: T.MistralConfig(**BASE, **GQA, sliding_window=16),
    "qwen2": lambda: T.Qwen2Config(**BASE, **GQA),
    "qwen3": lambda: T.Qwen3Config(**BASE, **GQA, head_dim=32),
    "qwen3_moe": lambda: T.Qwen3MoeConfig(
        **BASE, **GQA, head_dim=32, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32
    ),
    "mixtral": lambda: T.MixtralConfig(**BASE, **GQA, num_local_experts=4),
    "gemma2": lambda: T.Gemma2Config(**BASE, **GQA, head_dim=32, sliding_window=16),
    "gemma3_text": lambda: T.Gemma3TextConfig(**BASE, **GQA, head_dim=32, sliding_window=16),
    "phi3": lambda: T.Phi3Config(**BASE, **GQA),
    "gpt2": lambda: T.GPT2Config(
        n_embd=64, n_layer=4, n_head=4, vocab_size=1024, n_positions=1024, bos_token_id=0, eos_token_id=1
    ),
    "gpt_neox": lambda: T.GPTNeoXConfig(**BASE),
    "gpt_neo": lambda: T.GPTNeoConfig(
        hidden_size=64,
        num_layers=4,
        num_heads=4,
        vocab_size=1024,
        max_position_embeddings=2048,
        attention_types=[[["global", "local"], 2]],
        window_size=16,
        intermediate_size=128,
    ),
    "opt": lambda: T.OPTConfig(
        hidden_size=64,
        ffn_dim=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        vocab_size=1024,
        max_position_embeddings=2048,
        word_embed_proj_dim=64,
        pad_token_id=2,
    ),
    "opt350": lambda: T.OPTConfig(
        hidden_size=64,
        ffn_dim=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        vocab_size=1024,
        max_position_embeddings=2048,
        word_embed_proj_dim=32,
        do_layer_norm_before=False,
        pad_token_id=2,
    ),
    "bloom": lambda: T.BloomConfig(hidden_size=64, n_layer=4, n_head=4, vocab_size=1024),
    "falcon": lambda: T.FalconConfig(
        hidden_size=64, num_hidden_layers=4, num_attention_heads=4, vocab_size=1024, alibi=False, multi_query=True
    ),
    "mpt": lambda: T.MptConfig(d_model=64, n_heads=4, n_layers=4, vocab_size=1024, max_seq_len=2048),
    "gpt_oss": lambda: T.GptOssConfig(
        **BASE, **GQA, head_dim=32, num_local_experts=4, num_experts_per_tok=2, sliding_window=16
    ),
    "bert": lambda: T.BertConfig(**SHORT),
    "roberta": lambda: T.RobertaConfig(**PAD1, type_vocab_size=1),
    "xlm_roberta": lambda: T.XLMRobertaConfig(**PAD1, type_vocab_size=1),
    "albert": lambda: T.AlbertConfig(**SHORT, embedding_size=32),
    "electra": lambda: T.ElectraConfig(**SHORT, embedding_size=32),
    "modernbert": lambda: T.ModernBertConfig(**BASE, local_attention=16, cls_token_id=0, sep_token_id=1),
    "t5": lambda: T.T5Config(d_model=64, d_ff=128, num_layers=4, num_heads=4, d_kv=16, vocab_size=1024),
    "mamba": lambda: T.MambaConfig(hidden_size=64, num_hidden_layers=4, vocab_size=1024, state_size=8),
    "jamba": lambda: T.JambaConfig(
        **BASE,
        **GQA,
        num_experts=2,
        num_experts_per_tok=1,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        mamba_d_state=8,
        use_mamba_kernels=False,
    ),
    "falcon_h1": lambda: T.FalconH1Config(
        **BASE, **GQA, mamba_d_ssm=64, mamba_n_heads=8, mamba_d_head=8, mamba_d_state=8
    ),
    "qwen3_next": lambda: T.Qwen3NextConfig(
        **BASE,
        **GQA,
        head_dim=32,
        linear_num_value_heads=4,
        linear_num_key_heads=2,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
        layer_types=["linear_attention", "full_attention"] * 2,
    ),
    "gemma3": lambda: T.Gemma3Config(
        text_config={**BASE, **GQA, "head_dim": 32, "sliding_window": 16}, vision_config=VISION, mm_tokens_per_image=4
    ),
    "llava": lambda: T.LlavaConfig(
        text_config=T.LlamaConfig(**BASE, **GQA), vision_config=T.CLIPVisionConfig(**{**VISION, "num_hidden_layers": 2})
    ),
    "qwen2_5_vl": lambda: T.Qwen2_5_VLConfig(
        text_config={
            **BASE,
            **GQA,
            "rope_parameters": dict(rope_type="default", rope_theta=1e6, mrope_section=[2, 3, 3]),
        },
        vision_config=dict(depth=1, hidden_size=32, num_heads=2, intermediate_size=32, out_hidden_size=64),
    ),
}
CLASSES = {
    "gemma3": "Gemma3ForConditionalGeneration",
    "llava": "LlavaForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
}


def tokenizer(folder: Path) -> None:
    text = [
        "Input statistics: min value -1.234, max value 5.678, median value 0.912, the trend of input is upward, top 5 lags are : [0, 24, 168]",
        "Dataset description: hourly counts. Task description: forecast the next 96 steps given the previous 512 steps information;",
    ]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=["<s>", "</s>", "<pad>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    T.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)


def make(name: str, folder: Path) -> None:
    torch.manual_seed(0)
    config = FAMILIES[name]()
    if name in CLASSES:
        model = getattr(T, CLASSES[name])(config)
    else:
        try:
            model = T.AutoModelForCausalLM.from_config(config)
        except ValueError:
            model = T.AutoModel.from_config(config)
    with torch.no_grad():  # larger than the usual start, so that a wrong position or a missing layer shows
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(3)
    model.save_pretrained(folder)
    tokenizer(folder)


def break_folders(out: Path) -> None:
    for name in ("qwen3", "gemma3_text", "llama"):
        if not (out / name).is_dir():
            make(name, out / name)

    def copy(name: str, source: str = "qwen3") -> Path:
        shutil.copytree(out / source, out / name, dirs_exist_ok=True)
        return out / name

    for source in ("qwen3", "gemma3_text"):
        weights = load_file(out / source / "model.safetensors")
        renames = {
            "peft_prefix": lambda k: "base_model.model." + k,
            "language_prefix": lambda k: "language_model." + k,
            "inner_prefix": lambda k: k.replace("model.", "model.language_model.", 1),
            "no_layer_1": lambda k: "" if ".layers.1." in k else k,
            "no_embedding": lambda k: "" if "embed_tokens" in k else k,
        }
        for name, rename in renames.items():
            folder = copy(f"{source}-{name}", source)
            save_file(
                {rename(k): v for k, v in weights.items() if rename(k)}, folder / "model.safetensors", {"format": "pt"}
            )
    llama = load_file(out / "llama/model.safetensors")
    (copy("lfs_pointer", "llama") / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
    )
    cut = copy("cut_file", "llama") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-5000])
    (folder := copy("fp16_variant", "llama")) and (folder / "model.safetensors").rename(
        folder / "model.fp16.safetensors"
    )
    (folder := copy("consolidated", "llama")) and (folder / "model.safetensors").rename(
        folder / "consolidated.safetensors"
    )
    folder = copy("adapter", "llama")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "base_model_name_or_path": "some/llm", "r": 8, "target_modules": ["q_proj"]}'
    )
    folder = copy("no_index", "llama")
    save_file(dict(list(llama.items())[:20]), folder / "model-00001-of-00002.safetensors", {"format": "pt"})
    save_file(dict(list(llama.items())[20:]), folder / "model-00002-of-00002.safetensors", {"format": "pt"})
    (folder / "model.safetensors").unlink()
    for name, entries in {
        "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 128},
        "awq": {"quant_method": "awq", "bits": 4, "group_size": 128},
    }.items():
        config = json.loads((copy(name, "llama") / "config.json").read_text())
        (out / name / "config.json").write_text(json.dumps({**config, "quantization_config": entries}))
    config = json.loads((copy("no_positions", "llama") / "config.json").read_text())
    (out / "no_positions/config.json").write_text(json.dumps({**config, "max_position_embeddings": None}))
