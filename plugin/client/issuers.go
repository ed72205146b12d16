package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/ampora/ampora/plugin/apitype"
	vault "github.com/hashicorp/vault/api"
)

// Issuers lists the issuers in the order of their making. None is no error.
func (c *Client) Issuers(ctx context.Context) ([]apitype.CAIssuer, error) {
	list, err := read[apitype.ListResponse[apitype.CAIssuer]](ctx, c, apitype.PathCAIssuers, url.Values{"list": {"true"}})
	var answer *vault.ResponseError
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound && len(answer.Errors) == 0 {
		return nil, nil // how Vault answers an empty list
	}
	if err != nil {
		return nil, err
	}
	var all []apitype.CAIssuer
	for _, id := range list.Keys {
		all = append(all, list.KeyInfo[id])
	}
	return all, nil
}
