"""Runs one command line after another in one process, for importing torch takes longer than refusing a bad file.

Reads a JSON object a line, the arguments and the folder; answers with exit code, stdout and stderr.
"""

import contextlib
import io
import json
import os
import sys
import traceback


def serve() -> None:
    """Until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes elsewhere
    from timellm_cli.cli import main

    for line in sys.stdin:
        request = json.loads(line)
        os.chdir(request["folder"])
        sys.argv = ["timellm", *request["arguments"]]
        out, err = io.StringIO(), io.StringIO()
        code: object = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as ending:
                code = ending.code or 0
            except BaseException:
                traceback.print_exc()
                code = "crash"
        answers.write(json.dumps({"code": code, "out": out.getvalue(), "err": err.getvalue()}) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
