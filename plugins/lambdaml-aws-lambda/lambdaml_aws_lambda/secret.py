"""Values of ``{env:NAME}`` that a function reads from AWS Secrets Manager, which are not in its configuration then."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, MutableMapping

from lambdaml_core.errors import LaunchFailed

SECRET = "LAMBDAML_SECRET"  # noqa: S105  (the name of a variable)
"""Variable of a function: the name of the secret, a JSON object of texts by name."""

_NAME = re.compile(r"(?!AWS_|LAMBDA_|LD_|PYTHON|PATH$|_)[A-Za-z_][A-Za-z0-9_]*")


def load(environment: MutableMapping[str, str]) -> None:
    """Make the secret's values variables; nothing where the function has none.

    Raises:
        LaunchFailed: the secret cannot be read, or is none that can be used.
    """
    if SECRET in environment:
        environment.update(_values(environment[SECRET], environment["AWS_REGION"]))


@functools.cache  # a process asks once, however many workers it runs
def _values(secret: str, region: str) -> Mapping[str, str]:
    return checked(secret, _read(secret, region))


def _read(secret: str, region: str) -> str:
    from lambdaml_aws_lambda.client import Client  # boto3 is imported where it is needed
    from lambdaml_aws_lambda.failures import translated
    from lambdaml_aws_lambda.options import AwsLambdaOptions

    with translated(f"reading the secret {secret}"):
        return Client(AwsLambdaOptions(region=region)).secrets.get_secret_value(SecretId=secret)["SecretString"]


def checked(secret: str, text: str) -> Mapping[str, str]:
    """What a secret's text says, which no error quotes.

    Raises:
        LaunchFailed: it is no JSON object of texts, or a name in it is none of a variable, or the system's own.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise LaunchFailed(f"the secret {secret} is no JSON object of texts", hint='write it as {"NAME": "value"}')
    for number, name in enumerate(values, 1):
        if not _NAME.fullmatch(name):  # who has mixed up names and values is not shown the value
            raise LaunchFailed(
                f"name {number} in the secret {secret} cannot be that of a variable",
                hint="use letters, digits and _, and no name that AWS_, LAMBDA_, LD_, PYTHON or _ begins",
            )
    return values
