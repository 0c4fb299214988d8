"""Search with LangChain: python examples/integrations/langchain_search.py [MODEL]."""

import sys

from langchain_core.vectorstores import InMemoryVectorStore

from embergem.integrations.langchain import EmbergemEmbeddings

texts = ["Graphene is a single layer of carbon atoms.", "An apple is the fruit of an apple tree."]
store = InMemoryVectorStore.from_texts(texts, EmbergemEmbeddings(*sys.argv[1:]))
[best] = store.similarity_search("What is graphene?", k=1)
print(best.page_content)
