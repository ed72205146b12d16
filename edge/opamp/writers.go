package opamp

import (
	"bufio"
	"net"
	"net/http"

	"github.com/ampora/ampora/edge/problem"
	"github.com/ampora/ampora/plugin/apitype"
)

// upgrade notices whether the connection was taken over.
type upgrade struct {
	http.ResponseWriter
	hijacked bool
}

// Hijack is what the WebSocket library asks for.
func (u *upgrade) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(u.ResponseWriter).Hijack()
	u.hijacked = err == nil
	return conn, rw, err
}

// explaining gives opamp-go's bare status codes a problem document.
type explaining struct {
	http.ResponseWriter
	refused func(*apitype.Error)
	done    bool
}

func (e *explaining) WriteHeader(status int) {
	if e.done {
		return
	}
	var err *apitype.Error
	switch {
	case status < http.StatusBadRequest:
		e.ResponseWriter.WriteHeader(status)
		return
	case status == http.StatusRequestEntityTooLarge:
		err = apitype.Errorf(apitype.BodyTooLarge, "")
	case status < http.StatusInternalServerError:
		err = apitype.Errorf(apitype.MessageInvalid, "the body is no AgentToServer message")
	default:
		err = apitype.Errorf(apitype.Internal, "")
	}
	e.done = true
	e.refused(err)
	problem.Write(e.ResponseWriter, err, 0)
}

// Write drops what would follow a problem document.
func (e *explaining) Write(p []byte) (int, error) {
	if e.done {
		return len(p), nil
	}
	return e.ResponseWriter.Write(p)
}
