"""The errors that a user can mend. Everything else is a defect of ours and keeps its traceback."""


class UserError(ValueError):
    """What is wrong, where, and the way out. The command line prints it and exits with 2."""


class ParamsError(UserError):
    """`params.yaml` or a recipe does not describe a valid run."""


class DataQualityError(UserError):
    """Too little of the data survived a stage; the stage is named in the message."""


class ContractError(UserError):
    """A stage was handed something made by other weights, another recipe or another geometry."""
