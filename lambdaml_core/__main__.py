"""``python -m lambdaml_core`` is the ``lambdaml`` command."""

from lambdaml_core.cli import main

raise SystemExit(main())
