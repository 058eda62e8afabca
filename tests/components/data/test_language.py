"""The language of captions, on sentences written for this test in the languages that are told apart."""

import pytest

from components.data.language import UNDETERMINED, detect_language

SENTENCES = {
    "en": (
        "a red circle moves to the left over grey stone",
        "Two people walk along the beach at sunset",
        "Close-up of a cat that is sleeping on its back",
        "An old man with a hat looks out of the window",
        "The camera pans across a city by night",
    ),
    "de": (
        "Ein roter Kreis bewegt sich nach links über den Stein",
        "Zwei Leute gehen bei Sonnenuntergang am Strand entlang",
        "Eine Katze schläft auf dem Rücken und träumt",
        "Die Kamera schwenkt über eine Stadt in der Nacht",
        "Ein alter Mann mit Hut sieht aus dem Fenster",
    ),
    "fr": (
        "Un cercle rouge se déplace vers la gauche",
        "Deux personnes marchent sur la plage au coucher du soleil",
        "Un chat dort sur le dos dans un panier",
        "La caméra glisse au-dessus de la ville pendant la nuit",
        "Un vieil homme avec un chapeau regarde par la fenêtre",
    ),
    "es": (
        "Un círculo rojo se mueve hacia la izquierda",
        "Dos personas caminan por la playa al atardecer",
        "El gato duerme sobre su espalda en una cesta",
        "La cámara se mueve sobre la ciudad y los puentes",
        "Un hombre viejo con sombrero mira por la ventana del tren",
    ),
    "it": (
        "Un cerchio rosso si muove verso la sinistra della pietra",
        "Due persone camminano sulla spiaggia al tramonto",
        "Il gatto dorme nella cesta e sogna",
        "Gli uccelli volano sul tetto della casa di notte",
        "Un vecchio con il cappello guarda dalla finestra",
    ),
    "pt": (
        "Um círculo vermelho se move para a esquerda",
        "Duas pessoas caminham na praia ao pôr do sol",
        "O gato dorme em uma cesta e não acorda",
        "A câmera passa sobre a cidade durante a noite com os carros",
        "Um homem velho com chapéu olha pela janela do trem",
    ),
    "nl": (
        "Een rode cirkel beweegt naar links over de steen",
        "Twee mensen lopen langs het strand bij zonsondergang",
        "De kat slaapt op zijn rug en droomt",
        "Het regent in de stad en er is niemand",
        "Een oude man met een hoed kijkt uit het raam",
    ),
    "pl": (
        "Czerwone koło przesuwa się w lewo",
        "Dwoje ludzi idzie po plaży o zachodzie słońca",
        "Kot śpi na plecach i śni",
        "Kamera przesuwa się nad miastem w nocy",
        "Stary człowiek w kapeluszu patrzy przez okno",
    ),
    "sv": (
        "En röd cirkel rör sig åt vänster över stenen",
        "Två personer går längs stranden i solnedgången",
        "Katten sover på rygg och drömmer",
        "Kameran sveper över en stad på natten",
        "En gammal man med hatt ser ut genom fönstret",
    ),
    "ru": ("Красный круг движется влево", "Кошка спит на спине"),
    "zh": ("一个红色的圆圈向左移动", "猫在睡觉"),
    "ja": ("赤い円が左に動く", "猫が寝ている", "カメラ"),
    "ko": ("빨간 원이 왼쪽으로 움직인다",),
    "ar": ("دائرة حمراء تتحرك إلى اليسار",),
    "el": ("Ένας κόκκινος κύκλος κινείται αριστερά",),
    "hi": ("एक लाल वृत्त बाईं ओर चलता है",),
    "th": ("วงกลมสีแดงเคลื่อนไปทางซ้าย",),
    "he": ("עיגול אדום נע שמאלה",),
}
PAIRS = [(language, text) for language, texts in SENTENCES.items() for text in texts]


@pytest.mark.parametrize(("language", "text"), PAIRS)
def test_a_sentence_is_never_taken_for_another_language(language, text):
    assert detect_language(text) in {language, UNDETERMINED}


def test_most_sentences_are_recognised():
    right = sum(detect_language(text) == language for language, text in PAIRS)
    assert right >= 0.9 * len(PAIRS)


@pytest.mark.parametrize("text", ["", "12:30", "cat", "4K HDR", "red carpet", "!!!"])
def test_what_gives_no_evidence_is_undetermined(text):
    assert detect_language(text) == UNDETERMINED


def test_an_english_caption_may_name_a_sign_in_another_script():
    assert detect_language("a neon sign says 拉麺 over the door of a restaurant") == "en"
