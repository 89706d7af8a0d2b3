"""No network between curl and the web server: the reference for what the machine and the links allow."""

from load import Way


class Client:
    """curl without a proxy."""

    process = None

    def __init__(self, way: Way):
        self.way = way

    def wait_ready(self) -> None:
        pass

    def make_room(self, circuits: int) -> None:
        pass

    def close(self) -> None:
        pass


class Direct:
    """A network of nothing."""

    relays: dict = {}

    def __init__(self, wires):
        self._wires = wires

    def up(self, _relays: int) -> None:
        pass

    def down(self) -> None:
        pass

    def client(self) -> Client:
        return Client(Way(self._wires.host("client")))
