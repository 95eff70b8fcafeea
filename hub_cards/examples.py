"""Sentences of our own that a card shows a checkpoint on when its author gave none.

A card never quotes the corpus a model was trained on: that may be private. Each sentence stands for a field; the card
takes those in which the checkpoint finds most.
"""

EXAMPLES: tuple[str, ...] = (
    "Deletion of the NF-kB binding site in the IL-6 gene promoter abolished its induction by dexamethasone in CD14+ "
    "monocytes.",
    "The University of Oslo studies the IL-2 gene promoter in CD8+ T cells.",
    "Mutations in the BRCA1 gene are found in families with hereditary breast cancer and ovarian carcinoma.",
    "The patient was given 40 mg of prednisone for asthma and developed hypertension and acute renal failure.",
    "Amina Okafor, a spokeswoman for the University of Nairobi, travelled to Geneva to meet officials of the World "
    "Health Organization.",
    "Nordwind Airlines of Hamburg won the German Cup against Real Lisbon on Sunday, coach Peter Lindqvist said.",
    "The director of the bank's Zurich office was arrested near the Ministry of Finance after a raid by soldiers.",
    "On 3 March 2021 Lindqvist Holdings Ltd. sold its shares in Baltic Freight to the Port of Riga for 12 million "
    "euros.",
    "Please send the invoice for order 7741 to Maria Jensen, 12 Harbour Street, Aarhus, or call +45 5550 1234.",
    "The new Falcon X2 laptop with a 14-inch screen costs less than the Orion tablet at Bright & Sons.",
)
