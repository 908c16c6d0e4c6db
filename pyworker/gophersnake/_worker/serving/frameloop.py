"""The loop that serves frames one after another, for all nodes but async ones."""

from __future__ import annotations

from gophersnake._worker.serving.answers import Answers
from gophersnake._worker.serving.calls import Handler
from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.connection import Connection, NoRoom
from gophersnake._worker.wire.frames import Frame, ProtocolError
from gophersnake._worker.wire.polling import Polling


class FrameLoop:
    """Serves the frames of a connection on the main thread."""

    def __init__(
        self,
        connection: Connection,
        answers: Answers,
        handler: Handler,
        interrupts: Interrupts,
        polling: Polling | None,
    ) -> None:
        """Create a loop that passes calls to a handler.

        Args:
            connection: receives the frames.
            answers: sends the answers.
            handler: serves the calls.
            interrupts: knows when the last call was begun.
            polling: polls before the worker waits for a frame; ``None`` if it must not.
        """
        self._connection = connection
        self._answers = answers
        self._handler = handler
        self._interrupts = interrupts
        self._polling = polling

    def serve(self) -> None:
        """Serve frames until the shutdown frame.

        Small results are kept back as long as another call is ready to be served, so
        that the results of many small calls are sent together.

        Raises:
            Closed: the connection has ended.
            ProtocolError: the supervisor violated the protocol.
            WorkerExit: the interpreter can no longer be trusted.
        """
        connection, answers = self._connection, self._answers
        next_call, flush_soon = connection.next_call, connection.flush_soon
        flush, await_frame = connection.flush, connection.await_frame
        call = self._handler.call
        interrupts, polling = self._interrupts, self._polling
        try:
            while True:
                found = next_call() if connection.start < connection.end else None
                if found is None:
                    if answers.idle_tasks:
                        answers.run_idle_tasks()
                    flush()
                    if polling is not None:
                        polling.before_wait(interrupts.since)
                    await_frame()
                    found = next_call()
                    if found is None:
                        if not self._handle(connection.receive()):
                            return
                        continue
                else:
                    flush_soon()  # this call may take long, and others before it are done
                call(*found)
        except NoRoom as error:
            self._answers.fail(error.call, error, "decode")
            raise  # not reached: fail has raised WorkerExit
        except ProtocolError:
            connection.flush()  # the results of the calls before remain valid
            raise

    def _handle(self, frame: Frame) -> bool:
        """Handle a frame of any type; return False for the shutdown frame."""
        kind = frame.type
        if kind == frames.CALL:
            self._handler.call(frame.call, frame.session, frame.body, frame.buffers)
        elif kind in frames.OF_SESSIONS:
            self._handler.handle_session(frame)
        elif kind == frames.PING:
            self._connection.send(frames.PONG, frame.call, b"")
        elif kind == frames.SHUTDOWN:
            self._handler.end()
            return False
        elif kind == frames.CANCEL:  # too late: the call has been answered
            self._connection.canceled.discard(frame.call)
        elif kind != frames.CREDIT:  # credit is too late as well
            raise ProtocolError(f"the supervisor sent a {frames.name(kind)} frame")
        return True
