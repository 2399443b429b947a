# SPDX-License-Identifier: Apache-2.0
# python3 publish.py 7 "Why is the sky blue?": a model's answer becomes the topic chat.7, as it is written.
import os, sys, requests
env, (chat, question) = {"RELAY": "http://127.0.0.1:8080", **os.environ}, sys.argv[1:]
key = {name: {"Authorization": f"Bearer {env.get(name, 'none')}"} for name in ("LLM_KEY", "RELAY_KEY")}
ask = {"model": env.get("LLM_MODEL"), "stream": True, "messages": [{"role": "user", "content": question}]}
llm = requests.post(env["LLM_URL"], json=ask, headers=key["LLM_KEY"], stream=True)
pipe, kind = f"{env['RELAY']}/topics/chat.{chat}/pipe", {"Content-Type": "text/event-stream", **key["RELAY_KEY"]}
try:
    print(requests.post(pipe, llm.iter_content(None), headers=kind).text)
except requests.ConnectionError:  # somebody pressed Stop (409), and nobody pays for the rest; or the relay is gone
    sys.exit("the relay takes no more of it")
