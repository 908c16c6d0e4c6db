"""Tests with the client of Triton, unchanged. The Go tests run them against a server."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException, np_to_triton_dtype


class Client:
    """What both clients can do; a subclass has the module and the client."""

    module: Any
    client: Any

    def tensor(self, name: str, array: np.ndarray, **options: Any) -> Any:
        tensor = self.module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, **options)
        return tensor

    def infer(self, model: str, *inputs: Any, **options: Any) -> Any:
        return self.client.infer(model, list(inputs), **options)

    def echoed(self, array: np.ndarray, **options: Any) -> np.ndarray:
        result = self.infer("echo", self.tensor("value", array, **options)).as_numpy("output")
        assert isinstance(result, np.ndarray)
        return result

    def test_the_server_and_its_models_are_ready(self) -> None:
        assert self.client.is_server_live()
        assert self.client.is_server_ready()
        assert self.client.is_model_ready("double")
        assert self.client.is_model_ready("double", "1")
        assert not self.client.is_model_ready("nothing")

    def test_arrays_of_each_dtype_come_back(self) -> None:
        for dtype in (
            "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()
        ):
            array = np.array([[0, 1, 2], [3, 4, 5]], dtype)
            got = self.echoed(array)
            assert got.dtype == array.dtype
            np.testing.assert_array_equal(got, array)

    def test_arrays_of_each_form_come_back(self) -> None:
        for shape in [(0,), (0, 3), (1,), (1, 1, 1), (100_000,)]:
            array = np.arange(np.prod(shape), dtype="float32").reshape(shape)
            np.testing.assert_array_equal(self.echoed(array), array)

    def test_bytes_come_back(self) -> None:
        assert self.echoed(np.array([b"\xff\x00"], dtype=object)).tolist() == [b"\xff\x00"]
        assert self.echoed(np.array(["höhe", ""], dtype=object)).tolist() == ["höhe".encode(), b""]
        shouted = self.infer("shout", self.tensor("text", np.array(["höhe"], dtype=object)))
        assert shouted.as_numpy("output").tolist() == ["HÖHE".encode()]
        size = self.infer("size", self.tensor("data", np.array([b"\xff\x00"], dtype=object)))
        assert size.as_numpy("output").tolist() == [2]

    def test_a_request_has_several_inputs_and_outputs(self) -> None:
        inputs = [
            self.tensor("vector", np.array([1, 3, 2], "float32")),
            self.tensor("text", np.array(["tea"], dtype=object)),
            self.tensor("k", np.array([2], "int64")),
        ]
        result = self.infer("search", *inputs, request_id="7")
        assert result.as_numpy("titles").tolist() == [b"tea 0", b"tea 1"]
        assert result.as_numpy("scores").tolist() == [3, 2]
        assert result.as_numpy("total").tolist() == [3]
        chosen = self.infer("search", *inputs, outputs=[self.module.InferRequestedOutput("total")])
        assert chosen.as_numpy("total").tolist() == [3]
        assert chosen.as_numpy("titles") is None

    def test_values_of_each_form_are_outputs(self) -> None:
        result = self.infer("results", self.tensor("which", np.array(["all"], dtype=object)))
        assert result.as_numpy("float16").dtype == np.dtype("float16")
        assert result.as_numpy("bytes").tolist() == [b"\xff\x00"]
        assert result.as_numpy("uint").tolist() == [2**64 - 1]
        assert result.as_numpy("matrix").tolist() == [[1, 2], [3, 4]]
        assert result.as_numpy("arrays").shape == (2, 2, 3)
        assert result.as_numpy("dict").tolist() == [b'{"a":[1,{"b":2.5}]}']
        assert result.as_numpy("none") is None

    def test_errors_say_what_is_wrong(self) -> None:
        fail = self.tensor("how", np.array(["permanent"], dtype=object))
        for says, call in {
            'there is no pipeline "nothing"': lambda: self.infer("nothing", fail),
            'has no version "2"': lambda: self.infer("fail", fail, model_version="2"),
            "this input is wrong": lambda: self.infer("fail", fail),
            "has no input": lambda: self.infer("double", fail),
            "no output": lambda: self.infer(
                "double",
                self.tensor("x", np.zeros((1, 2), "float32")),
                outputs=[self.module.InferRequestedOutput("y")],
            ),
            "the value is not one that the node takes": lambda: self.infer(
                "double", self.tensor("x", np.zeros(3, "float32"))
            ),
            "sequences of requests": lambda: self.infer(
                "fail", fail, sequence_id=5, sequence_start=True
            ),
        }.items():
            with pytest.raises(InferenceServerException, match=says):
                call()

    def test_a_timeout_ends_the_run(self) -> None:
        hang = self.tensor("how", np.array(["hang"], dtype=object))
        with pytest.raises(
            InferenceServerException, match="the time that the request allows is over"
        ):
            self.infer("fail", hang, timeout=50_000)


class TestHTTP(Client):
    module = http_client

    @pytest.fixture(scope="class", autouse=True)
    def connect(self, request: pytest.FixtureRequest) -> Iterator[None]:
        with http_client.InferenceServerClient(os.environ["OIP_HTTP"]) as client:
            request.cls.client = client
            yield

    def test_metadata_are_those_of_the_annotations(self) -> None:
        assert self.client.get_server_metadata()["name"] == "gophersnake"
        model = self.client.get_model_metadata("double")
        assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
        assert self.client.get_model_config("double")["input"][0]["data_type"] == "TYPE_FP32"
        assert self.client.get_model_config("count")["model_transaction_policy"]["decoupled"]
        index = self.client.get_model_repository_index()
        assert {"name": "double", "version": "1", "state": "READY", "reason": ""} in index

    def test_json_holds_what_binary_data_do(self) -> None:
        for array in [
            np.array([[1.5, -2]], "float32"),
            np.array([2**60], "int64"),
            np.array([True, False]),
            np.array([2**64 - 1], "uint64"),
            np.array([1.5], "float16"),
            np.array(["höhe", "b"], dtype=object),
        ]:
            output = http_client.InferRequestedOutput("output", binary_data=False)
            got = self.infer(
                "echo", self.tensor("value", array, binary_data=False), outputs=[output]
            )
            assert got.as_numpy("output").tolist() == array.tolist()
            assert "parameters" not in got.get_output("output")

    def test_a_request_may_be_compressed(self) -> None:
        array = np.arange(1000, dtype="float32").reshape(-1, 2)
        for algorithm in ["gzip", "deflate"]:
            got = self.infer(
                "double",
                self.tensor("x", array),
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            np.testing.assert_array_equal(got.as_numpy("output"), array * 2)

    def test_an_asynchronous_request_is_answered(self) -> None:
        pending = [
            self.client.async_infer("double", [self.tensor("x", np.full((1, 2), i, "float32"))])
            for i in range(5)
        ]
        assert [p.get_result().as_numpy("output")[0, 0] for p in pending] == [0, 2, 4, 6, 8]

    def test_bfloat16_comes_back(self) -> None:
        ml_dtypes = __import__("ml_dtypes")
        array = np.array([[1.5, -2]], ml_dtypes.bfloat16)
        np.testing.assert_array_equal(self.echoed(array), array)


class TestGRPC(Client):
    module = grpc_client

    @pytest.fixture(scope="class", autouse=True)
    def connect(self, request: pytest.FixtureRequest) -> Iterator[None]:
        with grpc_client.InferenceServerClient(os.environ["OIP_GRPC"]) as client:
            request.cls.client = client
            yield

    def test_metadata_are_those_of_the_annotations(self) -> None:
        assert self.client.get_server_metadata().name == "gophersnake"
        model = self.client.get_model_metadata("double", as_json=True)
        assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "2"]}]
        config = self.client.get_model_config("count").config
        assert config.model_transaction_policy.decoupled
        assert config.input[0].data_type == 9
        assert "double" in [m.name for m in self.client.get_model_repository_index().models]

    def test_a_request_may_be_compressed(self) -> None:
        array = np.arange(1000, dtype="float32").reshape(-1, 2)
        got = self.infer("double", self.tensor("x", array), compression_algorithm="gzip")
        np.testing.assert_array_equal(got.as_numpy("output"), array * 2)

    def streamed(
        self, requests: list[tuple[str, Any, dict[str, Any]]], responses: int
    ) -> list[Any]:
        """Send requests in one stream, and return that many responses or errors."""
        got: queue.Queue[Any] = queue.Queue()
        self.client.start_stream(lambda result, error: got.put(error or result))
        try:
            for model, tensor, options in requests:
                self.client.async_stream_infer(model, [tensor], **options)
            return [got.get(timeout=30) for _ in range(responses)]
        finally:
            self.client.stop_stream()

    def test_each_value_of_a_generator_is_a_response(self) -> None:
        tensor = self.tensor("n", np.array([3], "int64"))
        got = self.streamed(
            [("count", tensor, {"request_id": "a", "enable_empty_final_response": True})], 4
        )
        assert [r.as_numpy("output").tolist() for r in got[:3]] == [[0], [1], [2]]
        assert {r.get_response().id for r in got} == {"a"}
        final = [r.get_response().parameters["triton_final_response"].bool_param for r in got]
        assert final == [False, False, False, True]
        assert len(got[3].get_response().outputs) == 0

    def test_requests_of_one_stream_have_their_ids(self) -> None:
        requests = [
            ("double", self.tensor("x", np.full((1, 2), i, "float32")), {"request_id": str(i)})
            for i in range(40)
        ]
        got = {r.get_response().id: r for r in self.streamed(requests, len(requests))}
        assert len(got) == 40
        for i in range(40):
            assert got[str(i)].as_numpy("output")[0, 0] == 2 * i
            assert got[str(i)].get_response().parameters["triton_final_response"].bool_param

    def test_an_error_does_not_end_the_stream(self) -> None:
        bad, good = (self.tensor("n", np.array([n], "int64")) for n in (-1, 1))
        got = self.streamed([("count", bad, {})], 2)
        assert got[0].as_numpy("output").tolist() == [0]
        assert "too few" in str(got[1])
        got = self.streamed([("nothing", good, {}), ("count", good, {})], 2)
        assert len([r for r in got if isinstance(r, InferenceServerException)]) == 1


class TestInterface:
    def test_each_field_is_that_of_the_client(self) -> None:
        """Compare the server's own description of the interface with that in tritonclient."""
        from google.protobuf.descriptor_pb2 import FileDescriptorProto
        from tritonclient.grpc import model_config_pb2, service_pb2

        known: dict[str, Any] = {}
        services: dict[str, Any] = {}
        for module in (service_pb2, model_config_pb2):
            file = FileDescriptorProto()
            module.DESCRIPTOR.CopyToProto(file)
            known.update(flat(file))
            for service in file.service:
                services.update(
                    {
                        m.name: (
                            m.input_type,
                            m.output_type,
                            m.client_streaming,
                            m.server_streaming,
                        )
                        for m in service.method
                    }
                )
        own = FileDescriptorProto()
        with open(os.environ["OIP_DESCRIPTOR"], "rb") as stream:
            own.ParseFromString(stream.read())
        compared = flat(own)
        assert len(compared) > 80
        for name, field in compared.items():
            assert field == known.get(name), name
        for m in own.service[0].method:
            assert services[m.name] == (
                m.input_type,
                m.output_type,
                m.client_streaming,
                m.server_streaming,
            )


def flat(file: Any) -> dict[str, Any]:
    """Return the number and the type of each field and each value of an enum, by its full name."""
    all_fields: dict[str, Any] = {}

    def add(prefix: str, message: Any) -> None:
        name = f"{prefix}.{message.name}"
        for f in message.field:
            all_fields[f"{name}.{f.name}"] = (f.number, f.type, f.label, f.type_name)
        for nested in message.nested_type:
            add(name, nested)

    for message in file.message_type:
        add("", message)
    for enum in file.enum_type:
        all_fields.update({f"{enum.name}.{v.name}": v.number for v in enum.value})
    return all_fields
