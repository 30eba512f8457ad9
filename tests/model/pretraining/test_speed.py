import time

import torch

from model.network.gpt import GPT, GPTConfig
from model.pretraining.throughput import Speed, flops_per_token, product_rate

GPT2 = GPTConfig(layers=12, heads=12, width=768, context=1024, vocab_size=50257)
CPU = torch.device("cpu")


def test_gpt2_takes_six_operations_a_parameter_that_multiplies_and_attention():
    with torch.device("meta"):
        model = GPT(GPT2)
    multiplying = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.dim() == 2 and "wpe" not in name
    )
    assert flops_per_token(GPT2) == 6 * multiplying + 12 * 12 * 768 * 1024 == 854_438_400


def test_seconds_of_other_work_are_not_trainings():
    speed = Speed(GPT2, tokens_per_step=1000, device=CPU, dtype=torch.float32, computing=1)
    speed.start()
    time.sleep(0.05)
    with speed.other("validation"):
        time.sleep(0.3)
    rate = speed.took(steps=2)
    summary = speed.summary()
    assert 0.05 <= summary["seconds"]["training"] < 0.3 <= summary["seconds"]["validation"]
    assert summary["steps"] == 2
    assert summary["tokens_per_second"] == 2000 / summary["seconds"]["training"]
    assert rate == (summary["tokens_per_second"], summary["model_flops_utilization"])
    seconds = sum(summary["seconds"].values())
    assert speed.seconds_for(steps=6) == 3 * seconds
    share = (
        summary["tokens_per_second"] * flops_per_token(GPT2) / summary["product_flops_per_second"]
    )
    assert summary["model_flops_utilization"] == share


def test_several_processes_have_the_rate_of_as_many():
    one, four = (Speed(GPT2, 1000, CPU, torch.float32, processes).summary() for processes in (1, 4))
    assert four["product_flops_per_second"] > 1.5 * one["product_flops_per_second"]
    assert product_rate(CPU, torch.float32) > 0
