"""Serves the frames of a connection, one after the other."""

from __future__ import annotations

from gophersnake._worker.serving.answers import Answers
from gophersnake._worker.serving.handler import Handler
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.connection import Connection, NoRoom
from gophersnake._worker.wire.frames import Frame, ProtocolError


class Server:
    """Calls a node on the thread that reads the socket."""

    def __init__(self, connection: Connection, answers: Answers, handler: Handler) -> None:
        """Take the connection, what answers on it, and what serves the calls."""
        self._connection = connection
        self._answers = answers
        self._handler = handler

    def serve(self) -> None:
        """Serve all frames up to the shutdown.

        Results are kept as long as there is another call to be served at once, so
        that those of many small calls go out together.

        Raises:
            Closed: the supervisor is gone.
            ProtocolError: it spoke out of protocol.
            End: the interpreter is not to be trusted any more.
        """
        next_call, watch = self._connection.next_call, self._connection.watch
        call = self._handler.call
        try:
            while True:
                found = next_call()
                if found is None:
                    self._answers.collect()
                    self._connection.listen()
                    found = next_call()
                    if found is None:
                        if not self._do(self._connection.receive()):
                            return
                        continue
                else:
                    watch()  # the call may take long, and others before it are done
                call(*found)
        except NoRoom as error:
            self._answers.fail(error.call, error, "decode")
            raise  # it has ended the worker already
        except ProtocolError:
            self._connection.flush()  # what was answered before it stands
            raise

    def _do(self, frame: Frame) -> bool:
        """Do what a frame asks for; False where that is the end."""
        kind = frame.type
        if kind == frames.CALL:
            self._handler.call(frame.call, frame.session, frame.body, frame.buffers)
        elif kind in frames.OF_SESSIONS:
            self._handler.of_session(frame)
        elif kind == frames.PING:
            self._connection.send(frames.PONG, frame.call, b"")
        elif kind == frames.SHUTDOWN:
            self._handler.end()
            return False
        elif kind == frames.CANCEL:  # too late: the call has been answered
            self._connection.cancelled.discard(frame.call)
        elif kind != frames.CREDIT:  # too late, too
            raise ProtocolError(f"the supervisor sent a {frames.name(kind)} frame")
        return True
