"""The library under the stages: no argument parsing, no knowledge of the pipeline's file layout."""
