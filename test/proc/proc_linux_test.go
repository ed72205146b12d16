package proc

import (
	"net"
	"os"
	"testing"
)

func TestAConnectionTellsWhoOpenedIt(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ours, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if pid, ok := Dialled(accepted, []int{1, os.Getpid()}); !ok || pid != os.Getpid() {
		t.Errorf("it was %d, %v; we are %d", pid, ok, os.Getpid())
	}
	if pid, ok := Dialled(accepted, []int{os.Getppid()}); ok {
		t.Errorf("our parent %d has not opened it", pid)
	}
}
