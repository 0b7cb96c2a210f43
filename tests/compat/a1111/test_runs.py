from compat.a1111.runs import Runs
from server.core.jobs import JobId

JOB = JobId("1")


def test_a_run_is_there_while_its_context_lasts() -> None:
    runs = Runs()
    with runs.opened(owner="", label="x", total=3) as run:
        assert runs.between("") is run
        run.job = JOB
        assert runs.between("") is None
    run.job = None
    assert runs.between("") is None


def test_with_keys_everyone_has_his_own() -> None:
    runs = Runs()
    with runs.opened(owner="anna", label="x", total=1) as hers, runs.opened(owner="bob", label="x", total=1) as his:
        assert runs.between("bob") is his
        runs.stop("bob", set())
        assert (hers.stopped, his.stopped) == (False, True)


def test_stopping_means_the_run_whose_job_was_ended() -> None:
    runs = Runs()
    with runs.opened(owner="", label="x", total=1) as one, runs.opened(owner="", label="x", total=1) as other:
        one.job, other.job = JOB, JobId("2")
        runs.stop("", {JOB})
        assert (one.stopped, other.stopped) == (True, False)
