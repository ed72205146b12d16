package fleet

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

var ports struct {
	sync.Mutex
	taken map[int]bool
}

// FreeAddr is an address on loopback that nobody listens on. It is below the range from which systems take the ports of
// outgoing connections, so that it stays free while whoever listened on it is killed and started again.
func FreeAddr(t testing.TB) string {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	if ports.taken == nil {
		ports.taken = map[int]bool{}
	}
	for range 1000 {
		port := 20000 + rand.N(12000)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		if ports.taken[port] {
			continue
		}
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			ports.taken[port] = true
			return addr
		}
	}
	t.Fatal("there is no free port")
	return ""
}
