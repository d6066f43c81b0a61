"""`pytest checks --submission TARGET` grades one submission; `pytest` runs the grader's own tests."""

pytest_plugins = ["grader.plugin"]
