package plugintest

import (
	"context"
	"slices"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/logical"
)

// seen notes the operations of the requests that reach a backend.
type seen struct {
	logical.Backend
	operations []logical.Operation
}

func (s *seen) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	s.operations = append(s.operations, req.Operation)
	return s.Backend.HandleRequest(ctx, req)
}

func TestAWriteOfWhatIsNotThereIsACreationAsInVault(t *testing.T) {
	s := Start(t)
	watched := &seen{Backend: s.Backend}
	s.Backend = watched
	c := s.Client(t)
	for range 2 {
		if _, err := c.WriteGroup(t.Context(), "web", apitype.GroupRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.IssueToken(t.Context(), apitype.TokenIssueRequest{}); err != nil {
		t.Fatal(err)
	}
	if want := []logical.Operation{logical.CreateOperation, logical.UpdateOperation, logical.UpdateOperation}; !slices.Equal(watched.operations, want) {
		t.Errorf("%v", watched.operations)
	}
}
