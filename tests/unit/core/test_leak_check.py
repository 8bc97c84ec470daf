"""The suite's own leak check, and the virtual-time loop."""

from pathlib import Path

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parents[2] / "conftest.py"


def test_a_test_that_leaves_a_task_behind_fails(pytester):
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile(
        """
        import asyncio

        async def test_leaves_a_task():
            asyncio.create_task(asyncio.sleep(3600), name="stray")

        async def test_ends_its_tasks():
            task = asyncio.create_task(asyncio.sleep(0))
            await task

        def test_is_not_async():
            pass
        """
    )
    result = pytester.runpytest_inprocess(
        "-p",
        "asyncio",
        "-p",
        "no:cacheprovider",
        "--asyncio-mode=auto",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
    )
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*tasks left behind*stray*"])
