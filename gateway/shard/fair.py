"""Work of many projects, one project after the other, and of each its topics in turn. Pure.

A project with one topic of a million subscribers gets as many turns as one with a small topic, and
within a project the same holds for its topics.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from router.model.ids import ProjectId

Work = TypeVar("Work")


class Fair(Generic[Work]):
    """What waits in one lane."""

    __slots__ = ("_projects",)

    def __init__(self) -> None:
        self._projects: dict[ProjectId, deque[Work]] = {}

    def __bool__(self) -> bool:
        return bool(self._projects)

    def __iter__(self) -> Iterator[ProjectId]:
        return iter(self._projects)

    def add(self, project: ProjectId, work: Work) -> None:
        """Put work behind what its project has already."""
        waiting = self._projects.get(project)
        if waiting is None:
            waiting = self._projects[project] = deque()
        waiting.append(work)

    def remove(self, project: ProjectId, work: Work) -> None:
        """Take out what waits; ValueError where it does not."""
        waiting = self._projects[project]
        waiting.remove(work)
        if not waiting:
            del self._projects[project]

    def next(self, may: Callable[[ProjectId], bool]) -> ProjectId | None:
        """Give the project whose turn it is of those that may go on; its next turn comes last."""
        for project in self._projects:
            if may(project):
                self._projects[project] = self._projects.pop(project)
                return project
        return None

    def take(self, project: ProjectId) -> Work | None:
        """Take the first that a project has; None where it has none."""
        waiting = self._projects.get(project)
        if waiting is None:
            return None
        work = waiting.popleft()
        if not waiting:
            del self._projects[project]
        return work
