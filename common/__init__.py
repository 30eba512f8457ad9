"""What stages and pipeline/ share: errors, atomic files, strict YAML, sections of params.yaml.

It imports neither model/ nor pipeline/. Every stage depends on it, so an edit here reruns all of
them.
"""
