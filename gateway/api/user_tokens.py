"""User tokens: with one, a device proves whose it is. The app server signs it, the app carries it.

A JWT (RFC 7519) signed with HS256 and the project's user secret. Each refusal names the field and
the reason, and nothing of the token or the secret is logged.
"""

import hashlib
import math
from typing import Final

import jwt
import msgspec

from gateway.api.violations import refuse
from router.model.errors import FieldViolation, PushError
from router.model.ids import ProjectId
from router.policy.limits import user_violation
from router.store.projects import Projects

ALGORITHM: Final = "HS256"
MAX_LIFETIME_S: Final = 86_400
"""A token that is valid for longer is refused: who steals one must not have it for good."""
LEEWAY_S: Final = 30
MAX_CHARACTERS: Final = 4096
_MAX_ID_CHARACTERS: Final = 255


class _Claims(msgspec.Struct, frozen=True):
    sub: str
    exp: float
    aud: str | list[str] | None = None
    iss: str | None = None
    nbf: float | None = None
    jti: str | None = None


_decoder = msgspec.json.Decoder(_Claims)
_jws = jwt.PyJWS()


class UserTokens:
    """Reads user tokens.

    Args:
        projects: where the secrets are, and the tokens that were used.
    """

    def __init__(self, projects: Projects) -> None:
        self._projects = projects

    async def user_of(self, project: ProjectId, token: str, claim: str, now_ms: int) -> str:
        """Give the user that a token names. One with a `jti` is used up by that.

        Args:
            project: whose secret must have signed it.
            token: as the device sent it.
            claim: unique to this request: a command that is sent again is no second use.
            now_ms: epoch milliseconds.

        Raises:
            PushError: INVALID_ARGUMENT, naming the reason.
            StoreUnavailableError: the store is away.
        """
        if len(token) > MAX_CHARACTERS or token.count(".") != 2:  # noqa: PLR2004 - RFC 7515
            raise _refused("is not a JWT")
        secrets = await self._projects.user_secrets(project)
        valid = [one.value for one in secrets if not one.until_ms or one.until_ms > now_ms]
        if not valid:
            raise _refused("cannot be checked: the project has no user secret yet, rotate it once")
        claims = _claims(token, valid)
        _check(claims, project, now_ms / 1000)
        if claims.jti is not None:
            await self._use_up(project, claims, claim, now_ms)
        return claims.sub

    async def _use_up(self, project: ProjectId, claims: _Claims, claim: str, now_ms: int) -> None:
        named = hashlib.sha256((claims.jti or "").encode()).hexdigest()
        # Until no clock takes it for valid: another API's may be behind this one by the leeway too.
        left_ms = math.ceil((claims.exp + 2 * LEEWAY_S) * 1000) - now_ms
        if not await self._projects.use_user_token(project, named, claim, left_ms):
            raise _refused("was used before: ask the app server for a new one")


def _claims(token: str, secrets: list[str]) -> _Claims:
    for secret in secrets:
        try:
            payload: bytes = _jws.decode(token, secret.encode(), algorithms=[ALGORITHM])
        except jwt.InvalidSignatureError:
            continue
        except jwt.InvalidAlgorithmError:
            raise _refused(f"must be signed with {ALGORITHM}") from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise _refused("is not a JWT") from None
        return _read(payload)
    raise _refused("has a bad signature: it was not signed with the project's user secret")


def _read(payload: bytes) -> _Claims:
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _refused(
            "must hold the claims sub (the user, a text) and exp (a number); aud, iss, nbf and jti "
            f"may stand there in the form of RFC 7519: {error}"
        ) from None


def _check(claims: _Claims, project: ProjectId, now_s: float) -> None:
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if claims.iss not in {None, project} or (audiences is not None and project not in audiences):
        raise _refused(f"is of a wrong project: aud and iss, where given, must be {project}")
    if claims.exp <= now_s - LEEWAY_S:
        raise _refused("has expired")
    if claims.exp > now_s + MAX_LIFETIME_S + LEEWAY_S:
        raise _refused(f"is valid for too long: exp may lie {MAX_LIFETIME_S} seconds ahead")
    if claims.nbf is not None and claims.nbf > now_s + LEEWAY_S:
        raise _refused("is not valid yet")
    if not claims.sub or user_violation(claims.sub) is not None:
        raise _refused("must name the user in sub: 1 to 128 printable characters")
    if claims.jti is not None and not 0 < len(claims.jti) <= _MAX_ID_CHARACTERS:
        raise _refused(f"must have a jti of 1 to {_MAX_ID_CHARACTERS} characters, or none")


def _refused(reason: str) -> PushError:
    return refuse([FieldViolation("user_token", reason)])
