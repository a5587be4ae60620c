"""Hardware behind an instrument, over real sockets and real PyVISA: right, safe, the same after faults."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.faulty_wire import Fault, FaultyWire
from device_models import DeviceCard, load_card
from hwloop.bench import BenchError, BenchServer, LimitError, Link, SwitchMatrixSmu, TileBoard, connect
from hwloop.hardware import Hardware, IdealHardware
from hwloop.mapping import ConductanceMap, LayerMap, encode
from hwloop.recipe import Readout
from tests.line.maps import map_of, random_layer

from .conftest import serving

MAP = map_of(random_layer("a", signed=True), random_layer("b", matrix_shape=(6, 5)), card="rram-neurram")
SMALL = map_of(random_layer("c", matrix_shape=(5, 4)), card="rram-neurram")


def inputs_for(layer: LayerMap, batch: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, layer.matrix_shape[0], generator=generator) * layer.input_scale / 2
    return (x if layer.input_signed else x.abs()).clamp(max=layer.input_scale, min=-layer.input_scale)


def relative_error(hardware: Hardware, conductance_map: ConductanceMap, layer: str, batch: int = 7) -> float:
    ideal = IdealHardware()
    ideal.program(conductance_map)
    x = inputs_for(conductance_map.layers[layer], batch)
    exact = ideal.read(layer, x)
    return float((hardware.read(layer, x) - exact).norm() / exact.norm())


def one_polarity(encoding: str) -> ConductanceMap:
    """A layer in one array, with unused lines; of one sign in the first half of its rows."""
    blocks = torch.zeros(1, 8, 8, dtype=torch.int8)
    blocks[0, :6, :4] = torch.randint(0, 8, (6, 4), generator=torch.Generator().manual_seed(2))
    blocks[0, 4:] *= -1
    row_index = torch.tensor([[0, 1, 2, 3, 4, 5, -1, -1]], dtype=torch.int32)
    col_index = torch.tensor([[0, 1, 2, 3, -1, -1, -1, -1]], dtype=torch.int32)
    cells = encode(blocks, row_index, col_index, encoding, 15, 1, fragment=4)
    layer = LayerMap(
        name="c",
        kind="linear",
        weight_shape=(4, 6),
        groups=1,
        row_index=row_index,
        col_index=col_index,
        weight_per_siemens=1e4,
        input_scale=2.0,
        input_signed=False,
        adc_bits=torch.tensor([7], dtype=torch.uint8),
        **cells._asdict(),
    )
    return map_of(layer, card="rram-neurram")


def test_a_board_multiplies_with_what_was_programmed(address: str) -> None:
    hardware = connect(address)
    programmed = hardware.program(MAP)
    for name, layer in programmed.layers.items():
        formed = layer.codes > 0
        assert (layer.actual[~formed] == 0).all()
        error = (layer.actual - MAP.target(name))[formed]
        assert 0.5e-6 < error.std() < 3e-6  # the card's programming error is about 2 uS
        assert relative_error(hardware, MAP, name) < 0.25


@pytest.mark.parametrize("encoding", ["offset", "polarised"])
def test_other_encodings_give_the_product_too(address: str, encoding: str) -> None:
    hardware = connect(address)
    hardware.program(one_polarity(encoding))
    assert relative_error(hardware, one_polarity(encoding), "c") < 0.25


def test_a_switch_matrix_with_an_smu_writes_closer_and_reads_the_same_product(address: str) -> None:
    hardware = connect(address, driver="smu")
    programmed = hardware.program(SMALL)
    formed = SMALL.layers["c"].codes > 0
    error = (programmed.layers["c"].actual - SMALL.target("c"))[formed]
    assert error.abs().max() < 0.03 * 40e-6
    assert relative_error(hardware, SMALL, "c", batch=2) < 0.1


@pytest.mark.parametrize("driver", ["tile", "smu"])
def test_a_board_and_a_client_started_again_give_the_same(driver: str) -> None:
    def once() -> torch.Tensor:
        with serving() as server:
            hardware = connect(f"127.0.0.1:{server.port}", driver=driver)
            hardware.program(SMALL)
            return hardware.read("c", inputs_for(SMALL.layers["c"], 2))

    assert torch.equal(once(), once())


def test_batches_do_not_change_what_is_read(address: str) -> None:
    hardware, x = connect(address), inputs_for(MAP.layers["a"], 50)
    hardware.program(MAP)
    whole = hardware.read("a", x)
    hardware.take_up(MAP, {"a": 1, "b": 1}, {"a": 0, "b": 0})
    parts = torch.cat([hardware.read("a", part) for part in x.split(17)])
    assert torch.equal(whole, parts)
    assert not torch.equal(hardware.read("a", x), whole)  # read noise


def test_layers_are_programmed_one_at_a_time(address: str) -> None:
    hardware = connect(address)
    whole = hardware.program(MAP)
    x = inputs_for(MAP.layers["b"])
    before = hardware.read("b", x)
    again = hardware.program(MAP, ["a"])
    assert again.layers["b"].actual is None
    assert not torch.equal(again.layers["a"].actual, whole.layers["a"].actual)  # written anew
    hardware.take_up(MAP, {"a": 2, "b": 1}, {"a": 0, "b": 0})
    assert torch.equal(hardware.read("b", x), before)
    fewer = replace(MAP, layers={"a": random_layer("a", matrix_shape=(6, 5)), "b": MAP.layers["b"]})
    with pytest.raises(BenchError, match="layer b would have to move"):
        hardware.program(fewer, ["a"])
    hardware.program(fewer)


def test_identity_says_that_it_is_a_virtual_instrument_and_capabilities_what_it_has(address: str) -> None:
    hardware = connect(address)
    hardware.program(MAP)
    assert hardware.identity["backend"] == "bench"
    assert hardware.identity["simulated"] is True
    assert hardware.identity["card"] == "rram-neurram"
    assert str(hardware.identity["instrument"]).startswith("hwloop,virtual-instrument,")
    has = hardware.capabilities
    assert (has.array_shape, has.arrays, has.levels, has.adc_bits) == ((8, 8), 64, 15, 10)


def test_what_the_instrument_does_not_have_is_refused(address: str) -> None:
    hardware = connect(address)
    with pytest.raises(BenchError, match="arrays of 9x9, the instrument 8x8"):
        hardware.program(map_of(random_layer(array_shape=(9, 9)), card="rram-neurram"))
    with pytest.raises(BenchError, match="needs 110 arrays, the instrument has 64"):
        hardware.program(map_of(random_layer(matrix_shape=(35, 75)), card="rram-neurram"))
    finer = load_card("rram-neurram").model_dump()
    finer["level_count"]["value"] = 31
    with pytest.raises(BenchError, match="31 levels, the instrument 15"):
        hardware.program(map_of(random_layer(), card=DeviceCard.model_validate(finer)))


def card_with_limits(**limits: dict[str, object] | None) -> DeviceCard:
    whole = load_card("rram-neurram").model_dump(exclude_none=True)
    whole["limits"] = {**whole["limits"], **limits}
    return DeviceCard.model_validate(whole)


def ampere(value: float) -> dict[str, object]:
    return {"value": value, "unit": "A", "source": "a test"}


def test_a_cell_above_its_current_limit_is_named_and_nothing_is_sent(server: BenchServer) -> None:
    asked = []
    with FaultyWire(server.port, lambda way, _: asked.append(way) or Fault.NONE) as wire:
        hardware = connect(wire.address)
        asked.clear()
        dangerous = map_of(random_layer("a"), card=card_with_limits(cell_current=ampere(7e-6)))
        with pytest.raises(
            LimitError, match=r"layer a, tile 0, positive slice 0, word line \d, bit line \d: .* A at 0.2 V"
        ) as raised:
            hardware.program(dangerous)
        assert "cell current limit of 7e-06 A" in str(raised.value)
        assert asked == []


def test_nothing_is_pulsed_unless_the_card_says_with_how_much(address: str) -> None:
    silent = card_with_limits(program_voltage=None)
    with pytest.raises(LimitError, match=r"states no limits.program_voltage"):
        connect(address, driver="smu").program(map_of(random_layer(), card=silent))
    low = card_with_limits(program_voltage={"value": 1.0, "unit": "V", "source": "a test"})
    with pytest.raises(LimitError, match=r"pulses of 2.5 V are above the limit of 1 V"):
        connect(address, driver="smu").program(map_of(random_layer(), card=low))


def test_a_card_without_limits_is_read_at_its_read_voltage_and_no_more() -> None:
    plain = load_card("rram-milo")
    limits = plain.safe_limits
    assert limits.read_voltage.value == plain.read_voltage.value
    assert limits.cell_current.value == plain.g_max.value * plain.read_voltage.value
    assert limits.program_voltage is None


def every(period: int, fault: Fault, offset: int = 0) -> Callable[[str, int], Fault]:
    return lambda _, number: fault if number % period == offset else Fault.NONE


@pytest.mark.parametrize("driver", ["tile", "smu"])
@pytest.mark.parametrize("fault", [Fault.CUT, Fault.GARBLE, Fault.HANG])
def test_faults_of_the_wire_change_nothing(fault: Fault, driver: str) -> None:
    conductance_map = MAP if driver == "tile" else SMALL
    name = "a" if driver == "tile" else "c"
    x = inputs_for(conductance_map.layers[name], 2)

    def run(address: str) -> tuple[torch.Tensor, torch.Tensor]:
        hardware = connect(address, driver=driver, timeout=0.3, attempts=50)
        programmed = hardware.program(conductance_map)
        return programmed.layers[name].actual, hardware.read(name, x)

    with serving() as server:
        undisturbed = run(f"127.0.0.1:{server.port}")
    period = {Fault.CUT: 13, Fault.GARBLE: 13, Fault.HANG: 61}[fault] * (1 if driver == "tile" else 2)
    with serving() as server, FaultyWire(server.port, every(period, fault, 8)) as wire:
        disturbed = run(wire.address)
        assert wire.faults >= 2
    for before, after in zip(undisturbed, disturbed, strict=True):
        assert torch.equal(before, after)


def test_what_the_instrument_says_of_itself_is_never_garbled(server: BenchServer) -> None:
    plain = connect(f"127.0.0.1:{server.port}")
    for moment in range(4):
        with FaultyWire(server.port, every(1000, Fault.GARBLE, moment)) as wire:
            hardware = connect(wire.address, timeout=0.5)
            assert hardware.capabilities == plain.capabilities
            assert hardware.identity["instrument"] == plain.identity["instrument"]


def test_an_instrument_that_stays_silent_ends_in_one_clear_error(server: BenchServer) -> None:
    with (
        FaultyWire(server.port, lambda way, _: Fault.HANG) as wire,
        pytest.raises(BenchError, match=r"no usable answer in 2 attempts \(the last one: no answer within"),
    ):
        connect(wire.address, timeout=0.2, attempts=2)


def test_an_instrument_that_only_talks_garbage_ends_in_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        kept = []

        def babble() -> None:
            for _ in range(2):
                kept.append(listener.accept()[0])
                kept[-1].sendall(b"\xff\x00##9abc" * 20)

        threading.Thread(target=babble, daemon=True).start()
        with pytest.raises(BenchError, match="garbled answer"):
            Link(f"127.0.0.1:{port}", timeout=0.5, attempts=2).transact(1, b"*IDN?")


def test_no_instrument_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(BenchError, match="no usable answer in 2 attempts"):
        connect(f"127.0.0.1:{port}", attempts=2)


@pytest.mark.parametrize("address", ["", "host", "host:0", "host:70000", "a::b:1", "h/x:1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(BenchError, match="give HOST:PORT"):
        connect(address)


def test_what_the_instrument_refuses_is_said_in_its_words(address: str) -> None:
    with pytest.raises(BenchError, match=r"refuses \(-113\): Undefined header;NOPE"):
        Link(address).transact(1, b"NOPE")


def test_without_pyvisa_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvisa", None)
    with pytest.raises(BenchError, match=r"install hwloop\[bench\]"):
        connect("127.0.0.1:1")


def test_a_driver_of_ones_own_is_one_small_class() -> None:
    """Arrays in this process, as the documentation shows it."""
    from hwloop.bench import BenchHardware
    from hwloop.hardware import Capabilities

    class Perfect:
        identity, simulated = "arithmetic", True
        capabilities = Capabilities(array_shape=(16, 16))

        def __init__(self) -> None:
            self._held: dict[int, np.ndarray] = {}

        def prepare(self, card: DeviceCard) -> None:
            pass

        def program(self, array: int, target: np.ndarray, number: int) -> np.ndarray:
            self._held[array] = target
            return target

        def read(self, array: int, codes: np.ndarray, bits: int, full_scale: float, first: int) -> np.ndarray:
            return codes @ self._held[array]

        def close(self) -> None:
            pass

    for conductance_map in (MAP, one_polarity("offset"), one_polarity("polarised")):
        hardware = BenchHardware(Perfect(), Readout(dac_bits=14))
        hardware.program(conductance_map)
        for name in conductance_map.layers:
            assert relative_error(hardware, conductance_map, name) < 2e-3
    with pytest.raises(ValueError, match=r"one copy of each array, but hardware\.copies is 3; set it to 1"):
        BenchHardware(Perfect(), Readout(copies=3))


def test_the_drivers_are_named() -> None:
    with pytest.raises(BenchError, match="no driver 'x'; there are tile, smu"):
        connect("127.0.0.1:1", driver="x")
    assert (TileBoard.name, SwitchMatrixSmu.name) == ("tile", "smu")
