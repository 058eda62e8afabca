"""The errors that a user can mend. Everything else is a defect of ours and keeps its traceback."""


class UserError(ValueError):
    """What is wrong, where, and the way out. The command line prints it and exits with 2."""


class ParamsError(UserError):
    """`params.yaml` or a recipe does not describe a valid run."""


class DataQualityError(UserError):
    """Too little of the data survived a stage; the stage is named in the message."""


class ContractError(UserError):
    """A stage was handed something made by other weights, another recipe or another geometry."""


class Interruption(KeyboardInterrupt):  # no error: nothing is wrong, and nothing is lost
    """Work was stopped on request after what is done so far was saved; the message says how to go on.

    The command line leaves with `exit_code`, which is 128 + the signal. A `KeyboardInterrupt`, so that no
    handler of ordinary errors takes it for a failure.
    """

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
