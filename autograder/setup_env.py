"""The course's own Python environment: made on first use, checked in a moment afterwards.

    python autograder/setup_env.py                   set up .venv in the repository
    python autograder/setup_env.py run ARGUMENTS     the same, then `python ARGUMENTS` in it
    python autograder/setup_env.py demo ARGUMENTS    the same with the packages of `make demo`
    python autograder/setup_env.py try ARGUMENTS     run without setting up (for the doctor)

With `VENV=PATH` in the environment, that environment is used as it is and nothing is installed.
With `mine=yes` the modules of t2i that are run are those that `make mine` put together.
This file runs on the system's Python, before anything is installed: standard library only, and
no syntax that an old Python cannot read, so that it is refused with a sentence.
"""

import os
import subprocess
import sys

OLDEST = (3, 11)
REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MINE = os.path.join(REPOSITORY, "mine")  # what `make mine` writes
# Without these not even grading starts; the others are only missed where they are used.
ESSENTIAL = ("torch", "torchvision", "numpy", "safetensors", "pytest", "rich", "typer", "nbgrader")


def main(arguments):
    """Set up if need be, then become `python ARGUMENTS`; return an exit status otherwise."""
    if sys.version_info < OLDEST:
        sys.stderr.write(
            "The course needs Python 3.11 or newer, and %s is %d.%d: install a newer one, or name "
            "it: make PYTHON=/path/to/python3.12 ...\n" % ((sys.executable,) + sys.version_info[:2])
        )
        return 2
    from autograder.setup_facts import SetupError

    action = arguments[0] if arguments else "setup"
    try:
        if runs_mine(arguments[1:]) and not os.path.isdir(os.path.join(MINE, "t2i")):
            raise SetupError("mine=%s: run `make mine` first" % os.environ["mine"])
        python = choose(set_up_first=action != "try")
        if action == "demo" and not os.environ.get("VENV"):
            from autograder.setup_venv import add

            add("demo")
    except SetupError as error:
        sys.stderr.write("%s\n" % error)
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; the next make goes on from here.\n")
        return 130
    return 0 if action == "setup" else become(python, arguments[1:])


def choose(set_up_first=True):
    """The Python to use: that of `VENV`, else of .venv, which is made if `set_up_first`."""
    from autograder import setup_facts, setup_venv

    named = os.environ.get("VENV", "")
    if named:
        python = setup_facts.external(named)
        use_as_it_is(python, quietly=not set_up_first)
        return str(python)
    if set_up_first and not setup_venv.is_whole():
        setup_venv.set_up()
    python = setup_facts.python_in(setup_facts.VENV)
    return str(python) if os.path.exists(str(python)) else sys.executable


def use_as_it_is(python, quietly):
    """Say in one line what an existing environment lacks; stop if it cannot even grade.

    `quietly`: say nothing of packages (the doctor does), only stop at an old Python.
    """
    from autograder.setup_facts import SetupError, numbers, probe, requirements

    wanted = requirements(dev=False)
    state = probe(python, list(wanted))
    found = state["packages"]
    if tuple(state["python"]) < OLDEST:
        version = ".".join(map(str, state["python"]))
        raise SetupError(
            "VENV: %s is Python %s, and the course needs 3.11 or newer." % (python, version)
        )
    lacking = [
        name for name in wanted if not found[name] or numbers(found[name]) < numbers(wanted[name])
    ]
    if quietly or not lacking:
        return
    command = " ".join("'%s>=%s'" % (name, wanted[name]) for name in lacking)
    line = "VENV: packages are missing or too old; mend: %s -m pip install %s" % (python, command)
    if any(found[name] is None for name in lacking if name in ESSENTIAL):
        raise SetupError(line)
    sys.stderr.write("Note: %s\n" % line)


def runs_mine(arguments):
    """Whether `mine=yes` was said to make, which hands its variables on, and a t2i module runs."""
    wanted = os.environ.get("mine", "no").lower() not in ("", "0", "no")
    return wanted and arguments[:1] == ["-m"] and arguments[1].startswith("t2i.")


def become(python, arguments):
    """Run `python ARGUMENTS` in this process's place, so that its status and signals are ours."""
    variables = dict(os.environ)
    folders = [os.path.dirname(python), variables.get("PATH", "")]
    variables["PATH"] = os.pathsep.join(folders)
    if variables.get("VENV"):
        ours = [os.path.join(REPOSITORY, "solutions"), REPOSITORY, variables.get("PYTHONPATH", "")]
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, ours))
    if runs_mine(arguments):
        first = [MINE, variables.get("PYTHONPATH", "")]
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, first))
    command = [python] + arguments
    sys.stdout.flush()
    if os.name == "nt":
        return subprocess.call(command, env=variables)
    os.execve(python, command, variables)


if __name__ == "__main__":
    sys.path[0] = REPOSITORY  # not this file's folder: its modules would hide other ones
    sys.exit(main(sys.argv[1:]))
