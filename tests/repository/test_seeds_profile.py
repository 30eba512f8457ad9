"""profiles/seeds.yaml is the demonstration with more seeds, and differs from it in nothing else."""

from repository import REPOSITORY

from common.yaml_file import read_yaml


def test_the_profile_of_five_seeds_is_the_demonstration():
    """Its verdict in docs/evaluation.md is about the demonstration's networks."""
    ours, demonstration = (
        read_yaml(REPOSITORY / path) for path in ("profiles/seeds.yaml", "params.yaml")
    )
    seeds = ours.pop("seeds")
    assert len(set(seeds)) >= 5
    assert set(demonstration.pop("seeds")) <= set(seeds), "whose runs the cache has already"
    assert ours == demonstration
