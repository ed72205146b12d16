package ampora

import (
	"context"
	"runtime/debug"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// HandleExistenceCheck answers whether a write makes something or changes it, so that Vault can tell the capabilities create
// and update apart. It looks at the path alone: the framework would validate the fields as well, and Vault puts that error,
// which quotes a value, into its log and hides it from the caller. The handler says what is wrong with a field.
//
// A panic is one failed request here, too (see HandleRequest).
func (b *backend) HandleExistenceCheck(ctx context.Context, req *logical.Request) (found, exists bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			b.Logger().Error("an existence check panicked", "request_id", req.ID, "stack", string(debug.Stack()))
			found, exists, err = true, false, coded(apitype.Errorf(apitype.Internal, "the request failed"))
		}
	}()
	only := *req
	only.Data = nil
	return b.Backend.HandleExistenceCheck(ctx, &only)
}

// existence asks there whether the tenant of the path has a thing of the name that stands in the field. What is no name has
// nothing: the handler says so.
func existence(field string, there func(ctx context.Context, tenant, name string) (bool, error)) framework.ExistenceFunc {
	return func(ctx context.Context, req *logical.Request, data *framework.FieldData) (bool, error) {
		tenant, err := pathTenant(req, data)
		if err != nil {
			return false, nil
		}
		return there(ctx, tenant, data.Get(field).(string))
	}
}
