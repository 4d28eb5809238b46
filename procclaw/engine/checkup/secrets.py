"""Whether the secrets that the configuration refers to can be had. Their names are told, their values never."""

from collections.abc import Callable, Iterator, Mapping

from procclaw.engine.checkup.finding import Finding, listed, ok, problem, problem_told
from procclaw.engine.checkup.setup import Setup
from procclaw.model.errors import NotFound, ProcclawError
from procclaw.model.references import secrets_named
from procclaw.model.spec import JobSpec, Spec
from procclaw.system.credentials import Credentials, Place


def look_at_secrets(setup: Setup) -> Iterator[Finding]:
    if not setup.is_there:
        return
    try:
        kept = setup.home().credentials.places()
    except ProcclawError as error:
        yield problem_told("secrets", error)
        return
    trouble = setup.home().credentials.keychain_trouble()
    in_keychain = [name for name, place in kept if place is Place.KEYCHAIN]
    yield judge_keychain(trouble, in_keychain, setup.command)
    spec = setup.spec()
    wanted = {} if spec is None else wanted_secrets(spec)
    missing = {name: users for name, users in wanted.items() if not _is_set(setup.home().credentials, name)}
    yield from judge_secrets(wanted, missing, setup.command)


def _is_set(credentials: Credentials, name: str) -> bool:
    try:
        credentials.read(name)
    except NotFound:
        return False
    except ProcclawError:
        # It lives in a keychain that cannot be had, which is told of that.
        return True
    return True


def judge_keychain(trouble: str, kept: list[str], command: Callable[[str], str]) -> Finding:
    """`kept`: the names of what lives there."""
    if not trouble:
        return ok("keychain", "can be had")
    if kept:
        told = f"{listed(kept)}: kept in the keychain, which {trouble}"
        return problem("keychain", told, f"unlock it, or: {command(f'secret set {kept[0]} --file')}")
    return ok("keychain", f"it {trouble}; secrets go into the home's .secrets")


def judge_secrets(
    wanted: Mapping[str, list[str]], missing: Mapping[str, list[str]], command: Callable[[str], str]
) -> Iterator[Finding]:
    for name, users in missing.items():
        yield problem("secrets", f"{listed(users)}: the secret {name} is not set", command(f"secret set {name}"))
    if wanted and not missing:
        yield ok("secrets", f"{len(wanted)} of {len(wanted)} are set")


def wanted_secrets(spec: Spec) -> dict[str, list[str]]:
    """By name, which jobs refer to it; what procclaw.yaml says is said there."""
    found: dict[str, list[str]] = {}
    places = [("procclaw.yaml", spec.config), *((job.id, _behaviour(job)) for job in spec.jobs.values())]
    for place, declared in places:
        for name in sorted(secrets_named(declared)):
            found.setdefault(name, []).append(place)
    return found


def _behaviour(job: JobSpec) -> JobSpec:
    """Without what is only for people to read, which may explain what a reference is."""
    return job._replace(name="", description="", tags=())
