package ampora

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// handler is a path handler whose error still has its type.
type handler func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error)

// handle makes Vault's answer of a handler's error: a refusal of 400 is an ErrorResponse, any other status a bare coded
// error (Vault switches on its type, a wrapped one becomes 500).
func (b *backend) handle(h handler) framework.OperationFunc {
	return func(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
		resp, err := h(ctx, req, data)
		if err == nil {
			return resp, nil
		}
		var refusal *apitype.Error
		switch {
		case errors.As(err, &refusal):
			if refusal.Code.VaultStatus() >= http.StatusInternalServerError {
				b.Logger().Error("a request failed", "operation", req.Operation, "request_id", req.ID, "error", err)
			}
			if refusal.Code.VaultStatus() == http.StatusBadRequest {
				return logical.ErrorResponse(refusal.Error()), nil
			}
			return nil, coded(refusal)
		case strings.Contains(err.Error(), logical.ErrReadOnly.Error()), errors.Is(err, context.Canceled):
			return nil, err // Vault forwards on the first, and nobody listens after the second
		}
		b.Logger().Error("a request failed", "operation", req.Operation, "request_id", req.ID, "error", err)
		return nil, coded(apitype.Errorf(apitype.Internal, "the request failed"))
	}
}

func coded(e *apitype.Error) error { return logical.CodedError(e.Code.VaultStatus(), e.Error()) }

// failedField finds the field's name in the framework's words for a value that has the wrong type. The value comes after it.
var failedField = regexp.MustCompile(`^Field validation failed: error converting input for field "([a-z_]{1,64})"`)

// hideValues replaces what the framework itself says and quotes of the request, because Vault's audit log prints errors and
// warnings in the clear, and a value, or a name that we do not know, may be a secret.
func (b *backend) hideValues(req *logical.Request, resp *logical.Response) *logical.Response {
	if resp == nil {
		return nil
	}
	if resp.IsError() && strings.HasPrefix(resp.Error().Error(), "Field validation failed") {
		field := "a field"
		if m := failedField.FindStringSubmatch(resp.Error().Error()); m != nil && b.knowsField(m[1]) {
			field = m[1]
		}
		return logical.ErrorResponse(apitype.Errorf(apitype.FieldInvalid, "%s has the wrong type", field).Error())
	}
	for name := range req.Data {
		if !fieldLike.MatchString(name) {
			for i, w := range resp.Warnings {
				if strings.HasPrefix(w, "Endpoint ignored these unrecognized parameters") {
					resp.Warnings[i] = "Endpoint ignored unrecognized parameters"
				}
			}
			break
		}
	}
	return resp
}

// fieldLike is what a mistyped field's name looks like, and no secret does.
var fieldLike = regexp.MustCompile(`^[a-z_]{1,32}$`)

func (b *backend) knowsField(name string) bool {
	for _, p := range b.Paths {
		if _, ok := p.Fields[name]; ok {
			return true
		}
	}
	return false
}
