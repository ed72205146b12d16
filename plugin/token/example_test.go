package token_test

import (
	"fmt"

	"github.com/ampora/ampora/plugin/token"
)

func ExampleParse() {
	s, err := token.Parse(token.Bootstrap, "amp-bs.aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq.5jvqv5y\n")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("token_id:", s.ID())
	fmt.Println("agent_id:", s.AgentID())
	fmt.Println("printed: ", s)
	// Output:
	// token_id: 630dcd29-66c4-8366-9112-5448bbb25b4f
	// agent_id: 168ebc90-119e-887f-b750-88f3042876db
	// printed:  <secret>
}

func ExampleParse_copiedBadly() {
	_, err := token.Parse(token.Bootstrap, "amp-bs.aabqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq.5jvqv5y")
	fmt.Println(err)
	// Output:
	// token_checksum: the checksum does not fit: the token was not copied intact: copy it again, the original still works
}
