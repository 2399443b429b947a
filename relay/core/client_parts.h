/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of client share, for them only: client.c (the way of each event), client_relief.c
 * (what is let go as the node has too much). */
#pragma once
#include "relay/core/client.h"

static inline struct outbox_teller client_teller(const struct client *c,
                                                 const struct client_limits *limits)
{
    const struct outbox_teller *teller = &limits->teller;
    return (struct outbox_teller){teller->config, subscription_control(c->sub, teller->control)};
}

static inline enum slow_policy client_policy(const struct client *c,
                                             const struct client_limits *limits)
{
    const struct flow_request *asked = &subscription_request(c->sub)->flow;
    return asked->has_slow ? asked->slow : limits->slow;
}
