"""The base classes of the stand-in for the package ``remotemedia``, and its exceptions."""

from __future__ import annotations

import asyncio
import enum
import logging
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gophersnake._worker.adapters.remotemedia_data import RuntimeData

# remotemedia.core.exceptions


class RemoteMediaError(Exception):
    """An error of the package."""


class PipelineError(RemoteMediaError):
    """A pipeline is wrong."""


class NodeError(RemoteMediaError):
    """A node has failed."""


class ConfigurationError(RemoteMediaError):
    """A configuration is wrong."""


class SerializationError(RemoteMediaError):
    """A value cannot be sent."""


# remotemedia.core.node


@dataclass
class SessionState:
    """What a node keeps for one session id."""

    session_id: str
    data: dict[str, Any] = field(default_factory=dict)
    created_at: datetime = field(default_factory=datetime.now)
    last_accessed: datetime = field(default_factory=datetime.now)
    metadata: dict[str, Any] = field(default_factory=dict)

    def update_access_time(self) -> None:
        """Note that the state is in use."""
        self.last_accessed = datetime.now()

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key."""
        self.update_access_time()
        return self.data.get(key, default)

    def set(self, key: str, value: Any) -> None:
        """Set the value of a key."""
        self.update_access_time()
        self.data[key] = value

    def update(self, updates: dict[str, Any]) -> None:
        """Set the values of several keys."""
        self.update_access_time()
        self.data.update(updates)

    def clear(self) -> None:
        """Remove all keys."""
        self.data.clear()
        self.update_access_time()


class StateManager:
    """The states of a node by session id."""

    def __init__(
        self,
        default_ttl: timedelta | None = None,
        max_sessions: int | None = None,
        enable_persistence: bool = False,
    ) -> None:
        """Create the manager; a state that is not used for ``default_ttl`` may be discarded."""
        self._states: dict[str, SessionState] = {}
        self._lock = threading.Lock()
        self.default_ttl = default_ttl or timedelta(hours=24)
        self.max_sessions = max_sessions
        self.enable_persistence = enable_persistence

    def get_or_create_session(self, session_id: str) -> SessionState:
        """Return the state of a session; the one that is unused for longest may make room."""
        with self._lock:
            if session_id not in self._states:
                if self.max_sessions and len(self._states) >= self.max_sessions:
                    oldest = min(self._states.values(), key=lambda each: each.last_accessed)
                    del self._states[oldest.session_id]
                self._states[session_id] = SessionState(session_id)
            return self._states[session_id]

    def get_session(self, session_id: str) -> SessionState | None:
        """Return the state of a session, ``None`` if it has none."""
        with self._lock:
            return self._states.get(session_id)

    def delete_session(self, session_id: str) -> bool:
        """Discard the state of a session, and return whether it had one."""
        with self._lock:
            return self._states.pop(session_id, None) is not None

    def get_all_sessions(self) -> dict[str, SessionState]:
        """Return all states by session id."""
        with self._lock:
            return dict(self._states)

    def clear_all_sessions(self) -> None:
        """Discard all states."""
        with self._lock:
            self._states.clear()

    def cleanup_expired_sessions(self) -> int:
        """Discard the states that have expired, and return their number."""
        oldest = datetime.now() - self.default_ttl
        with self._lock:
            expired = [k for k, each in self._states.items() if each.last_accessed < oldest]
            for key in expired:
                del self._states[key]
        return len(expired)

    def start_cleanup_task(self, interval: timedelta | None = None) -> None:
        """Do nothing: the adapter discards expired states."""

    def stop_cleanup_task(self) -> None:
        """Do nothing; see ``start_cleanup_task``."""


class Node(ABC):
    """The base class of nodes that take and return plain values."""

    def __init__(
        self,
        name: str | None = None,
        enable_state: bool = True,
        state_ttl: timedelta | None = None,
        max_sessions: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Create the node; other keywords become its ``config``."""
        self.name = name or type(self).__name__
        self.config: Any = kwargs
        self._is_initialized = False
        self.logger = logging.getLogger(type(self).__name__)
        self.enable_state = enable_state
        self.state = StateManager(state_ttl, max_sessions) if enable_state else None
        self._current_session_id: str | None = None

    @abstractmethod
    def process(self, data: Any) -> Any:
        """Return the result of an item, ``None`` for none."""

    def initialize(self) -> Any:
        """Prepare the node, before its first item."""
        self._is_initialized = True

    def cleanup(self) -> Any:
        """Release what the node holds."""
        if self.state:
            self.state.clear_all_sessions()
        self._is_initialized = False

    @property
    def is_initialized(self) -> bool:
        """Whether the node has been initialized."""
        return self._is_initialized

    def set_session_id(self, session_id: str) -> None:
        """Set the id of the current session."""
        self._current_session_id = session_id

    def get_session_id(self) -> str | None:
        """Return the id of the current session."""
        return self._current_session_id

    def get_session_state(self, session_id: str | None = None) -> SessionState | None:
        """Return the state of a session, by default the current one."""
        session_id = session_id or self._current_session_id
        if not self.state or not session_id:
            return None
        return self.state.get_or_create_session(session_id)

    def extract_session_id(self, data: Any) -> str | None:
        """Return the session id in a dict, or in the dict at the end of a tuple."""
        if isinstance(data, tuple) and len(data) >= 2:
            data = data[-1]
        return data.get("session_id") if isinstance(data, dict) else None

    def split_data_metadata(self, data: Any) -> tuple[Any, dict[str, Any] | None]:
        """Return data and metadata: the dict at the end of a tuple, if it looks like metadata."""
        known = ("session_id", "metadata", "user_name", "timestamp")
        if not isinstance(data, tuple) or len(data) < 2 or not isinstance(data[-1], dict):
            return data, None
        if not any(key in data[-1] for key in known):
            return data, None
        return (data[0] if len(data) == 2 else data[:-1]), data[-1]

    def merge_data_metadata(self, data: Any, metadata: dict[str, Any] | None) -> Any:
        """Return data with metadata at the end of a tuple."""
        if metadata is None:
            return data
        return (*data, metadata) if isinstance(data, tuple) else (data, metadata)

    def get_config(self) -> dict[str, Any]:
        """Return name, class and config."""
        return {"name": self.name, "class": type(self).__name__, "config": self.config}

    def get_capabilities(self) -> dict[str, Any] | None:
        """Return what the node needs of its machine."""
        return None


# remotemedia.core.multiprocessing.node


class NodeStatus(enum.Enum):
    """What a node is doing."""

    IDLE = "idle"
    INITIALIZING = "initializing"
    READY = "ready"
    PROCESSING = "processing"
    ERROR = "error"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass
class NodeConfig:
    """The configuration of one node."""

    node_id: str
    node_type: str
    params: dict[str, Any]
    session_id: str | None = None
    log_level: str = "INFO"


class MultiprocessNode(Node):
    """The base class of nodes that take and return ``RuntimeData``."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        """Create the node from a ``NodeConfig``, or a dict with its fields."""
        if isinstance(config, dict):
            node_id = config.get("node_id", kwargs.pop("node_id", "unknown"))
            node_type = config.get("node_type", type(self).__name__)
            level = config.get("log_level", "INFO")
            session, params = config.get("session_id"), config.get("params", {})
        else:
            node_id, node_type, level = config.node_id, config.node_type, config.log_level
            session, params = config.session_id, config.params
        super().__init__(name=node_id, **kwargs)
        self.node_id, self.node_type, self.config = node_id, node_type, params
        self.session_id = session or f"default_{node_id}"
        self.status = NodeStatus.IDLE
        self.logger = logging.getLogger(f"node.{node_type}.{node_id}")
        self.logger.setLevel(getattr(logging, str(level).upper(), logging.INFO))

    @abstractmethod
    async def initialize(self) -> None:
        """Prepare the node, before its first item."""

    @abstractmethod
    async def process(self, data: RuntimeData) -> Any:
        """Return the result of an item, ``None`` for none, or yield results."""

    @abstractmethod
    async def cleanup(self) -> None:
        """Release what the node holds."""

    def publish_progress(self, status: str, message: str) -> None:
        """Report progress; the adapter replaces this."""

    def publish_to_node_port(self, target_node: str, port: str, payload: Any) -> None:
        """Send a value to another node; the adapter replaces this."""

    def process_sync(self, data: Any) -> Any:
        """Run ``process`` outside of an event loop, and return its result."""
        if not isinstance(data, RuntimeData):
            data = RuntimeData.json(data) if isinstance(data, dict) else RuntimeData.text(str(data))
        return asyncio.new_event_loop().run_until_complete(self.process(data))
