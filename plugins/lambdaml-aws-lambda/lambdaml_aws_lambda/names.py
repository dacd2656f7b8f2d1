"""Names of what is made in AWS, and whether names from outside are any."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import string
from collections.abc import Mapping
from typing import Any

from lambdaml_core.errors import OptionError

MARK = "lambdaml"
"""Key of the tag that everything has which LambdaML made; its value is the version."""
FUNCTION_TAG, REGION_TAG, RUN_TAG = "lambdaml:function", "lambdaml:region", "lambdaml:run"
BUCKET_TAG, READY_TAG = "lambdaml:bucket", "lambdaml:ready"
"""Further tags: where packages may be; and the package that a kept function has been found to work with."""
ROLE_PATH = "/lambdaml/"
KEPT = f"{MARK}-kept-"
"""How names of functions start that `lambdaml deploy` makes."""
PACKAGES = "lambdaml/packages/"
"""Prefix of packages in their bucket."""

LONGEST = 64
"""Letters of a function's and of a role's name."""

_DRAWN = 8
_FORMS = {
    "role": (re.compile(r"[\w+=,.@-]{1,64}", re.ASCII), "the name of a role, not its ARN"),
    "package_bucket": (re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"), "the name of a bucket"),
    "secret": (re.compile(r"[A-Za-z0-9/_+=.@-]{1,512}"), "the name of a secret, not its ARN"),
    "subnets": (re.compile(r"subnet-[0-9a-f]{8,17}"), "subnets such as subnet-0123456789abcdef0"),
    "security_groups": (re.compile(r"sg-[0-9a-f]{8,17}"), "security groups such as sg-0123456789abcdef0"),
}


def function_of_run(job_name: str | None) -> str:
    """``lambdaml-<job>-<8 drawn letters>``, at most 64 letters."""
    drawn = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(_DRAWN))
    room = LONGEST - len(f"{MARK}--{drawn}")
    word = re.sub(r"[^a-z0-9]+", "-", (job_name or "run").lower())[:room].strip("-") or "run"
    return f"{MARK}-{word}-{drawn}"


def function_kept(what: Mapping[str, Any]) -> str:
    """``lambdaml-kept-<hash of what it is made with>``."""
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return f"{KEPT}{digest[:16]}"


def log_group(function: str) -> str:
    """Where AWS puts what the function prints."""
    return f"/aws/lambda/{function}"


def package_key(sha256: str) -> str:
    """The object that holds a package: equal packages are one object."""
    return f"{PACKAGES}{sha256}.zip"


def check(option: str, name: str) -> str:
    """A name from a job that goes into requests and policies.

    Raises:
        OptionError: it is none of its kind.
    """
    form, what = _FORMS[option]
    if not form.fullmatch(name):
        raise OptionError(f"provider.{option}: {name!r} cannot be used", hint=f"write {what}")
    return name


def check_ours(function: str) -> str:
    """The name of a function from a deployment, which lies in a store that others may write to.

    Raises:
        OptionError: LambdaML makes none of that name.
    """
    if not re.fullmatch(rf"{MARK}-[a-z0-9-]{{1,{LONGEST - len(MARK) - 1}}}", function):
        raise OptionError(f"{function!r} is no function of LambdaML's", hint="the deployment in the store is damaged")
    return function


def is_package(key: str) -> bool:
    """Whether an object is named as packages are."""
    return re.fullmatch(rf"{PACKAGES}[0-9a-f]{{64}}\.zip", key) is not None


def check_package(key: str) -> str:
    """The same of a package's object.

    Raises:
        OptionError: it is no package.
    """
    if not is_package(key):
        raise OptionError(f"{key!r} is no package of LambdaML's", hint="the deployment in the store is damaged")
    return key
