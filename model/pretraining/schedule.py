"""The learning rate of each step: linear warm-up, then a cosine, a line, or a plateau and a line.

      peak ─     ________           peak ─     ____________
                /        ╲                    /            ╲
      min  ─   /          ╲__       min  ─   /              ╲
           warm-up  cosine                warm-up  wsd   decay_steps

Sources: the cosine is GPT-3's (Brown et al. 2020, appendix B) as karpathy/nanoGPT has it; `wsd`
(warm-up, stable, decay) is MiniCPM's (Hu et al. 2024, arXiv 2404.06395).
"""

import math

from model.params.pretrain import PretrainParams


def learning_rate_at(step: int, params: PretrainParams) -> float:
    """Return the learning rate of `step`, counted from 1; the last step has `min_learning_rate`.

    Examples with max_steps 100 and warmup_steps 10: step 5 has half the peak and step 10 the peak.
    In the middle of the fall, halfway to the minimum, are step 55 (cosine, linear) and, with
    decay_steps 20, step 90 (wsd).
    """
    if step <= params.warmup_steps:
        return params.learning_rate * step / params.warmup_steps
    falling = params.max_steps - params.warmup_steps
    if params.schedule == "wsd":
        falling = params.decay_steps
    # From 0 where the fall begins to 1 at the last step; below 0 on the plateau of wsd.
    progress = (step - params.max_steps + falling) / falling
    if progress <= 0:
        return params.learning_rate
    left = 1 - progress
    if params.schedule == "cosine":
        left = 0.5 * (1 + math.cos(math.pi * progress))
    return params.min_learning_rate + left * (params.learning_rate - params.min_learning_rate)
