"""Example sentences for model cards. They are used if the author of the model passes no examples.

A card never quotes the training corpus, because the corpus may be private.
"""

# For models with default types. The card shows the sentences in which the model finds the most entities.
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

# For models without default types. Each example is a sentence and the types to find in it.
OPEN_EXAMPLES: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "Please send the invoice for order 7741 to Maria Jensen, 12 Harbour Street, Aarhus, or call +45 5550 1234.",
        {
            "person": "A human being, by name.",
            "street address": "A street with the number of a house.",
            "city": "A town or a city.",
            "phone number": "A number to dial.",
            "order number": "The number that identifies an order.",
        },
    ),
    (
        "The 2019 Riesling from the Mosel went well with the smoked trout, but the tannins of the Nebbiolo were too "
        "much for it.",
        {
            "grape variety": "A kind of grape from which wine is made.",
            "wine region": "An area where wine is grown.",
            "dish": "Something that was cooked to be eaten.",
            "vintage": "The year in which the grapes of a wine were harvested.",
        },
    ),
    (
        "After the update to version 4.2 the Orion router dropped its connection whenever the firewall was on.",
        {
            "device": "A piece of electronic equipment, by name or kind.",
            "software version": "The number of a release of a program.",
            "problem": "What does not work as it should.",
        },
    ),
)
